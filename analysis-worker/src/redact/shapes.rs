//! Values that are known by their own shape: most vendors begin theirs with a name.
//!
//! The shapes follow the vendors' documentation as collected by gitleaks (MIT).

/// Kind, words of which one is in every such value (lower case), pattern.
pub(super) const SHAPES: &[(&str, &[&str], &str)] = &[
    // Clouds.
    (
        "aws_access_key_id",
        &["akia", "asia", "abia", "acca"],
        r"\b(?<value>(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b",
    ),
    ("google_api_key", &["aiza"], r"(?<value>\bAIza[0-9A-Za-z_\-]{35})"),
    (
        "google_oauth_token",
        &["ya29."],
        r"(?<value>\bya29\.[0-9A-Za-z_\-]{20,})",
    ),
    (
        "google_oauth_secret",
        &["gocspx-"],
        r"(?<value>\bGOCSPX-[0-9A-Za-z_\-]{24,})",
    ),
    (
        "azure_client_secret",
        &["q~"],
        r"(?<value>[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31,34})",
    ),
    (
        "azure_storage_key",
        &["accountkey"],
        r"(?i)\baccountkey=(?<value>[A-Za-z0-9+/]{80,}={0,2})",
    ),
    (
        "alibaba_access_key",
        &["ltai"],
        r"\b(?<value>LTAI[A-Za-z0-9]{12,24})\b",
    ),
    (
        "tencent_secret_id",
        &["akid"],
        r"\b(?<value>AKID[A-Za-z0-9]{32})\b",
    ),
    (
        "digitalocean_token",
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        r"\b(?<value>do[opr]_v1_[a-f0-9]{64})",
    ),
    (
        "cloudflare_origin_key",
        &["v1.0-"],
        r"\b(?<value>v1\.0-[a-f0-9]{24}-[a-f0-9]{100,})",
    ),
    ("heroku_key", &["hrku-"], r"\b(?<value>HRKU-[A-Za-z0-9_\-]{36,})"),
    (
        "fly_token",
        &["fo1_", "fm1", "fm2_"],
        r"\b(?<value>(?:fo1_[A-Za-z0-9_\-]{40,}|fm[12][ar]?_[A-Za-z0-9+/_\-]{60,}={0,3}))",
    ),
    (
        "scalingo_token",
        &["tk-us-"],
        r"\b(?<value>tk-us-[A-Za-z0-9_\-]{40,})",
    ),
    (
        "planetscale_token",
        &["pscale_"],
        r"\b(?<value>pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=\-]{30,})",
    ),
    ("supabase_token", &["sbp_"], r"\b(?<value>sbp_[a-f0-9]{40})"),
    (
        "tailscale_key",
        &["tskey-"],
        r"\b(?<value>tskey-[a-z]+-[A-Za-z0-9_\-]{16,})",
    ),
    // Code hosts.
    (
        "github_token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        r"(?<value>\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,}))",
    ),
    (
        "gitlab_token",
        &[
            "glpat-", "glptt-", "gldt-", "glrt-", "gloas-", "glsoat-", "glcbt-", "glft-", "glimt-",
            "glagent-", "glffct-",
        ],
        r"(?<value>\bgl(?:pat|ptt|dt|rt|oas|soat|cbt|ft|imt|agent|ffct)-[A-Za-z0-9_\-]{20,})",
    ),
    (
        "gitlab_runner_token",
        &["gr1348941"],
        r"\b(?<value>GR1348941[A-Za-z0-9_\-]{20,})",
    ),
    ("bitbucket_token", &["atbb"], r"\b(?<value>ATBB[A-Za-z0-9]{32,})"),
    (
        "atlassian_token",
        &["atatt3"],
        r"\b(?<value>ATATT3[A-Za-z0-9_\-=]{60,})",
    ),
    // CI and packages.
    ("npm_token", &["npm_"], r"\b(?<value>npm_[A-Za-z0-9]{36})"),
    ("pypi_token", &["pypi-"], r"\b(?<value>pypi-[A-Za-z0-9_\-]{50,})"),
    (
        "rubygems_key",
        &["rubygems_"],
        r"\b(?<value>rubygems_[a-f0-9]{48})",
    ),
    ("nuget_key", &["oy2"], r"\b(?<value>oy2[a-z0-9]{43})\b"),
    (
        "clojars_token",
        &["clojars_"],
        r"(?i)\b(?<value>clojars_[a-z0-9]{60})",
    ),
    ("crates_token", &["cio"], r"\b(?<value>cio[A-Za-z0-9]{32})\b"),
    (
        "docker_token",
        &["dckr_pat_", "dckr_oat_"],
        r"\b(?<value>dckr_[po]at_[A-Za-z0-9_\-]{20,})",
    ),
    (
        "jfrog_key",
        &["akcp", "cmvmdgtuo"],
        r"\b(?<value>(?:AKCp[A-Za-z0-9]{60,}|cmVmdGtuO[A-Za-z0-9]{40,}))",
    ),
    (
        "circleci_token",
        &["ccipat_", "cciprj_"],
        r"\b(?<value>CCI(?:PAT|PRJ)_[A-Za-z0-9_]{30,})",
    ),
    (
        "buildkite_token",
        &["bkua_", "bkaj_"],
        r"\b(?<value>bk(?:ua|aj)_[A-Za-z0-9]{36,})",
    ),
    ("octopus_key", &["api-"], r"\b(?<value>API-[A-Z0-9]{26})\b"),
    (
        "harness_token",
        &["pat.", "sat."],
        r"\b(?<value>[ps]at\.[A-Za-z0-9_\-]{22}\.[a-f0-9]{24}\.[A-Za-z0-9]{20})",
    ),
    (
        "postman_key",
        &["pmak-"],
        r"\b(?<value>PMAK-[a-f0-9]{24}-[a-f0-9]{34})",
    ),
    ("readme_key", &["rdme_"], r"\b(?<value>rdme_[a-z0-9]{70})"),
    // Chat.
    (
        "slack_token",
        &["xox", "xapp-"],
        r"(?<value>\bxox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9\-]{10,}|\bxapp-[A-Za-z0-9\-]{10,})",
    ),
    (
        "slack_webhook",
        &["hooks.slack.com"],
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?<value>[A-Za-z0-9/_\-]{20,})",
    ),
    (
        "discord_webhook",
        &["/api/webhooks/"],
        r"/api/webhooks/[0-9]{8,}/(?<value>[A-Za-z0-9_\-]{40,})",
    ),
    (
        "discord_bot_token",
        &["."],
        r"\b(?<value>[MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40})\b",
    ),
    (
        "telegram_bot_token",
        &[":aa"],
        r"\b(?<value>[0-9]{8,10}:AA[A-Za-z0-9_\-]{33})",
    ),
    (
        "teams_webhook",
        &["webhook.office.com"],
        r"webhook\.office\.com/webhookb2/(?<value>[A-Za-z0-9@/\-]{40,})",
    ),
    // Language models.
    (
        "openai_key",
        &["sk-"],
        r"\b(?<value>sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_\-]{20,})",
    ),
    (
        "huggingface_token",
        &["hf_", "api_org_"],
        r"\b(?<value>(?:hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{34}))",
    ),
    ("perplexity_key", &["pplx-"], r"\b(?<value>pplx-[A-Za-z0-9]{40,})"),
    ("groq_key", &["gsk_"], r"\b(?<value>gsk_[A-Za-z0-9]{40,})"),
    ("replicate_token", &["r8_"], r"\b(?<value>r8_[A-Za-z0-9]{37,})"),
    ("xai_key", &["xai-"], r"\b(?<value>xai-[A-Za-z0-9]{60,})"),
    (
        "databricks_token",
        &["dapi"],
        r"\b(?<value>dapi[a-f0-9]{32}(?:-[0-9])?)",
    ),
    // Observability.
    (
        "grafana_token",
        &["glsa_", "glc_"],
        r"\b(?<value>gl(?:sa|c)_[A-Za-z0-9+/_=\-]{32,})",
    ),
    (
        "newrelic_key",
        &["nrak-", "nrjs-", "nrii-", "nral"],
        r"\b(?<value>(?:NRAK-[A-Z0-9]{27}|NRJS-[a-f0-9]{19}|NRII-[A-Za-z0-9_\-]{32}|[a-f0-9]{36}NRAL))",
    ),
    (
        "sentry_token",
        &["sntrys_", "sntryu_"],
        r"\b(?<value>sntry[su]_[A-Za-z0-9+/_=\-]{30,})",
    ),
    (
        "dynatrace_token",
        &["dt0"],
        r"\b(?<value>dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64})",
    ),
    (
        "sonar_token",
        &["sqp_", "squ_", "sqa_"],
        r"\b(?<value>sq[pua]_[a-f0-9]{40})",
    ),
    (
        "honeycomb_key",
        &["hcaik_", "hcxik_"],
        r"\b(?<value>hc[a-z]ik_[A-Za-z0-9]{58,})",
    ),
    // Infrastructure.
    (
        "vault_token",
        &["hvs.", "hvb.", "hvr."],
        r"\b(?<value>hv[sbr]\.[A-Za-z0-9_\-]{24,})",
    ),
    (
        "terraform_token",
        &[".atlasv1."],
        r"\b(?<value>[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=\-]{60,70})",
    ),
    ("pulumi_token", &["pul-"], r"\b(?<value>pul-[a-f0-9]{40})"),
    (
        "doppler_token",
        &["dp."],
        r"\b(?<value>dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._\-]{40,})",
    ),
    (
        "onepassword_token",
        &["ops_eyj"],
        r"\b(?<value>ops_eyJ[A-Za-z0-9+/_=\-]{40,})",
    ),
    (
        "onepassword_secret_key",
        &["a3-"],
        r"\b(?<value>A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5})\b",
    ),
    ("prefect_key", &["pnu_"], r"\b(?<value>pnu_[a-zA-Z0-9]{36})"),
    (
        "openshift_token",
        &["sha256~"],
        r"\b(?<value>sha256~[A-Za-z0-9_\-]{43})",
    ),
    ("infracost_key", &["ico-"], r"\b(?<value>ico-[A-Za-z0-9]{32})"),
    (
        "age_key",
        &["age-secret-key-1"],
        r"(?i)\b(?<value>AGE-SECRET-KEY-1[A-Z0-9]{58})",
    ),
    // Payment and mail.
    (
        "stripe_key",
        &["k_live_", "k_test_", "k_prod_"],
        r"\b(?<value>[rsp]k_(?:live|test|prod)_[A-Za-z0-9]{16,})",
    ),
    (
        "webhook_secret",
        &["whsec_"],
        r"\b(?<value>whsec_[A-Za-z0-9+/=]{24,})",
    ),
    (
        "square_token",
        &["sq0", "eaaa"],
        r"\b(?<value>(?:sq0[a-z]{3}-[A-Za-z0-9_\-]{22,43}|EAAA[A-Za-z0-9_\-+=]{55,}))",
    ),
    (
        "plaid_token",
        &["access-"],
        r"\b(?<value>access-(?:sandbox|development|production)-[0-9a-f]{8}-[0-9a-f\-]{27})",
    ),
    (
        "shopify_token",
        &["shpat_", "shpca_", "shppa_", "shpss_"],
        r"\b(?<value>shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32})",
    ),
    (
        "flutterwave_key",
        &["flw"],
        r"\b(?<value>FLW(?:PUB|SEC)K(?:_TEST)?-[A-Za-z0-9]{12,}(?:-X)?)",
    ),
    (
        "sendgrid_key",
        &["sg."],
        r"\b(?<value>SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,})",
    ),
    ("mailgun_key", &["key-"], r"\b(?<value>key-[0-9a-f]{32})\b"),
    (
        "mailchimp_key",
        &["-us"],
        r"\b(?<value>[0-9a-f]{32}-us[0-9]{1,2})\b",
    ),
    (
        "brevo_key",
        &["xkeysib-"],
        r"\b(?<value>xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16})",
    ),
    ("twilio_key", &["sk"], r"\b(?<value>SK[0-9a-f]{32})\b"),
    (
        "shippo_token",
        &["shippo_"],
        r"\b(?<value>shippo_(?:live|test)_[a-fA-F0-9]{40})",
    ),
    (
        "easypost_key",
        &["ezak", "eztk"],
        r"\b(?<value>EZ[AT]K[A-Za-z0-9]{54})",
    ),
    // Work.
    (
        "linear_key",
        &["lin_api_", "lin_oauth_"],
        r"\b(?<value>lin_(?:api|oauth)_[A-Za-z0-9]{40,})",
    ),
    ("notion_token", &["ntn_"], r"\b(?<value>ntn_[A-Za-z0-9]{40,})"),
    (
        "typeform_token",
        &["tfp_"],
        r"\b(?<value>tfp_[A-Za-z0-9_.=\-]{40,})",
    ),
    (
        "airtable_token",
        &["pat"],
        r"\b(?<value>pat[A-Za-z0-9]{14}\.[a-f0-9]{64})",
    ),
    ("figma_token", &["figd_"], r"\b(?<value>figd_[A-Za-z0-9_\-]{38,})"),
    ("dropbox_token", &["sl."], r"\b(?<value>sl\.[A-Za-z0-9_\-]{60,})"),
    (
        "contentful_token",
        &["cfpat-"],
        r"\b(?<value>CFPAT-[A-Za-z0-9_\-]{43})",
    ),
    (
        "hubspot_token",
        &["pat-"],
        r"\b(?<value>pat-(?:na|eu)[0-9]-[0-9a-f]{8}-[0-9a-f\-]{27})",
    ),
    (
        "duffel_token",
        &["duffel_"],
        r"\b(?<value>duffel_(?:test|live)_[A-Za-z0-9_=\-]{43})",
    ),
    // Of all.
    (
        "jwt",
        &["eyj"],
        r"(?<value>\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*)",
    ),
];
