// Drives testkit's GitHub with the stock client: what the service takes and refuses, the fake takes and refuses, too.
// Usage: node client.mjs FAKE, the program of `crates/testkit/examples/github.rs`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { Octokit } from "@octokit/rest";

const fake = spawn(process.argv[2], { stdio: ["pipe", "pipe", "inherit"] });
const lines = createInterface({ input: fake.stdout })[Symbol.asyncIterator]();
const { url, token, owner, repo, run, job } = JSON.parse((await lines.next()).value);
const at = { owner, repo };
const client = (auth) =>
  new Octokit({ auth, baseUrl: url, log: { debug() {}, info() {}, warn: console.warn, error() {} } });
const github = client(token);

const refused = async (status, expected, call) => {
  const error = await call().then(
    () => assert.fail(`not refused: ${expected}`),
    (error) => error,
  );
  assert.equal(error.status, status, error.message);
  assert.match(error.message, expected);
  return error;
};

// Reads.
assert.equal((await github.rest.repos.get(at)).data.default_branch, "main");
const found = (await github.rest.actions.getWorkflowRun({ ...at, run_id: run })).data;
assert.equal(found.conclusion, "failure");
const attempt = { ...at, run_id: run, attempt_number: found.run_attempt };
assert.equal((await github.rest.actions.getWorkflowRunAttempt(attempt)).data.id, run);
const jobs = await github.paginate(github.rest.actions.listJobsForWorkflowRunAttempt, { ...attempt, per_page: 100 });
assert.equal(jobs.length, 120, "over two pages");
assert.equal(jobs.filter((job) => job.conclusion === "failure").length, 1);
const log = await github.rest.actions.downloadJobLogsForWorkflowRun({ ...at, job_id: job });
assert.match(log.data, /Process completed with exit code 1/);
const checkRun = Number(jobs.find(({ id }) => id === job).check_run_url.split("/").pop());
const annotations = await github.paginate(github.rest.checks.listAnnotations, { ...at, check_run_id: checkRun });
assert.deepEqual([annotations[0].path, annotations[0].start_line], ["a.py", 3]);
const green = { ...at, workflow_id: found.workflow_id, branch: "main", status: "success" };
assert.equal((await github.rest.actions.listWorkflowRuns(green)).data.total_count, 1);
const compared = await github.rest.repos.compareCommitsWithBasehead({ ...at, basehead: "a1...b2" });
assert.equal(compared.data.files[0].filename, "src/a b.py");
const raw = { ...at, path: "src/a b.py", ref: "b2", mediaType: { format: "raw" } };
assert.equal((await github.rest.repos.getContent(raw)).data, "import os\n");
const pulls = await github.rest.repos.listPullRequestsAssociatedWithCommit({ ...at, commit_sha: "b2" });
assert.equal(pulls.data[0].number, 12);

// Writes.
const issue = (await github.rest.issues.create({ ...at, title: "red", body: "x", labels: ["plumbline", "ci"] })).data;
assert.deepEqual(issue.labels.map(({ name }) => name), ["plumbline", "ci"]);
const labelled = await github.paginate(github.rest.issues.listForRepo, { ...at, labels: "plumbline", state: "all" });
assert.equal(labelled.length, 1);
const on = { ...at, issue_number: 12 };
const comment = (await github.rest.issues.createComment({ ...on, body: "first" })).data;
await github.rest.issues.updateComment({ ...at, comment_id: comment.id, body: "second" });
const comments = await github.paginate(github.rest.issues.listComments, on);
assert.deepEqual(comments.map(({ body }) => body), ["second"]);
assert.equal((await github.rest.issues.addLabels({ ...on, labels: ["ci", "ci"] })).data.length, 1);
const commit = { ...at, commit_sha: "b2" };
const noted = (await github.rest.repos.createCommitComment({ ...commit, body: "first" })).data;
await github.rest.repos.updateCommitComment({ ...at, comment_id: noted.id, body: "second" });
assert.equal((await github.rest.repos.listCommentsForCommit(commit)).data[0].body, "second");
const dispatch = { ...at, workflow_id: "retrain.yaml", ref: "main", inputs: { model: "churn", key: "k1" } };
assert.equal((await github.rest.actions.createWorkflowDispatch(dispatch)).status, 204);
const dispatched = { ...at, workflow_id: "retrain.yaml", event: "workflow_dispatch" };
const runs = (await github.rest.actions.listWorkflowRuns(dispatched)).data.workflow_runs;
assert.deepEqual(runs.map(({ display_title }) => display_title), ["k1"]);

// What is refused.
const long = "x".repeat(65_537);
const missing = await refused(422, /Validation Failed/, () => github.rest.issues.create({ ...at, title: "" }));
assert.equal(missing.response.data.errors[0].code, "missing_field");
await refused(422, /body is too long/, () => github.rest.issues.create({ ...at, title: "x", body: long }));
await refused(422, /body is too long/, () => github.rest.issues.createComment({ ...on, body: long }));
await refused(404, /Not Found/, () => github.rest.issues.createComment({ ...at, issue_number: 99, body: "x" }));
await refused(404, /Not Found/, () => github.rest.actions.getWorkflowRun({ ...at, run_id: 7 }));
await refused(404, /Not Found/, () => github.rest.repos.get({ owner, repo: "none" }));
await refused(422, /No ref found/, () => github.rest.actions.createWorkflowDispatch({ ...dispatch, ref: "gone" }));
await refused(422, /Unexpected inputs/, () =>
  github.rest.actions.createWorkflowDispatch({ ...dispatch, inputs: { depth: "3" } }),
);
await refused(404, /Not Found/, () =>
  github.rest.actions.createWorkflowDispatch({ ...dispatch, workflow_id: "none.yaml" }),
);
await refused(401, /Bad credentials/, () => client("wrong").rest.repos.get(at));
await refused(401, /Requires authentication/, () => client().rest.issues.create({ ...at, title: "x" }));

fake.stdin.end();
const { downloads, leaked } = JSON.parse((await lines.next()).value);
assert.deepEqual([downloads, leaked], [1, 0], "the log was downloaded without the token");
console.log("the stock client is content with testkit's GitHub");
