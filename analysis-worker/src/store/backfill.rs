//! What was missed: since when it has to be asked for, and which alerts were told another way.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Store, StoreError};
use crate::signal::{Origin, Signal, Status, now};

/// A pause between two beats that is longer than this is a gap, in milliseconds.
const GAP: i64 = 30_000;

impl Store {
    /// Notes that the worker can commit what it is told, and returns since when it may have missed something that was
    /// not asked for yet. `missed` says that it has since the last beat, however short that is ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn beat(&self, missed: bool) -> Result<Option<i64>, StoreError> {
        self.write(move |transaction| {
            let now = now();
            let last: Option<(i64, Option<i64>)> = transaction
                .prepare_cached("SELECT beat_at, missed_since FROM heartbeat")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let since = match last {
                Some((_, Some(since))) => Some(since),
                Some((beat_at, None)) => (missed || now - beat_at > GAP).then_some(beat_at),
                None => None,
            };
            transaction.execute(
                "INSERT INTO heartbeat (id, beat_at, missed_since) VALUES (1, ?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, missed_since = excluded.missed_since",
                params![now, since],
            )?;
            Ok(since)
        })
        .await
    }

    /// Notes that what was missed since then has been asked for and committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn caught_up(&self, since: i64) -> Result<(), StoreError> {
        self.write(move |transaction| {
            transaction.execute(
                "UPDATE heartbeat SET missed_since = NULL WHERE missed_since = ?1",
                [since],
            )?;
            Ok(())
        })
        .await
    }
}

/// Signals that may be the same alert: labels that external ones do not replace are equal, the times overlap. An alert of
/// Alertmanager is compared with back-filled ones only: two of its own differ when it says so.
const SAME_ALERT: &str = "SELECT id, incident_id, status, body FROM signal
    WHERE origin IN ('alertmanager', 'backfilled') AND json_extract(body, '$.labels.alertname') = ?1
    AND json_extract(body, '$.labels.instance') IS ?2 AND json_extract(body, '$.labels.pod') IS ?3
    AND starts_at <= ?4 AND (status = 'firing' OR ends_at >= ?5) AND (?6 OR origin = 'backfilled')
    ORDER BY starts_at DESC";

/// Id, incident and status of the signal that is the same alert as this one, told another way. From then on it is known
/// by the key of Alertmanager, which goes on telling of it.
///
/// Neither fingerprints nor times have to agree: Alertmanager adds Prometheus' external labels and keeps the earliest
/// begin of several servers. So one set of labels has the other in it, and both fired at the same time.
pub(super) fn same_alert(
    transaction: &Transaction<'_>,
    signal: &Signal,
) -> rusqlite::Result<Option<(i64, String, String)>> {
    let is_backfilled = match signal.origin {
        Origin::Backfilled => true,
        Origin::Alertmanager => false,
        _ => return Ok(None),
    };
    let labels = labels(&signal.body);
    let Some(name) = labels.get("alertname") else {
        return Ok(None);
    };
    let mut query = transaction.prepare_cached(SAME_ALERT)?;
    let until = signal.ends_at.unwrap_or(i64::MAX);
    let mut rows = query.query(params![
        name,
        labels.get("instance"),
        labels.get("pod"),
        until,
        signal.starts_at,
        is_backfilled
    ])?;
    while let Some(row) = rows.next()? {
        let (status, body): (String, String) = (row.get(2)?, row.get(3)?);
        let known = self::labels(&serde_json::from_str(&body).unwrap_or_default());
        let (small, large) = if known.len() < labels.len() {
            (&known, &labels)
        } else {
            (&labels, &known)
        };
        if small.iter().all(|(name, value)| large.get(name) == Some(value)) {
            let (id, incident): (i64, String) = (row.get(0)?, row.get(1)?);
            let status = if is_backfilled {
                status
            } else {
                adopt(transaction, id, &incident, &status, signal)?
            };
            return Ok(Some((id, incident, status)));
        }
    }
    Ok(None)
}

/// Makes a signal that was found in Prometheus one that Alertmanager tells; returns its status.
fn adopt(
    transaction: &Transaction<'_>,
    id: i64,
    incident: &str,
    status: &str,
    signal: &Signal,
) -> rusqlite::Result<String> {
    transaction.execute(
        "UPDATE signal SET dedup_key = ?2 WHERE id = ?1",
        params![id, signal.dedup_key],
    )?;
    if signal.status == Status::Resolved || status == Status::Firing.as_str() {
        return Ok(status.to_owned());
    }
    // Prometheus had no value of it for a while, but Alertmanager says that it fires, and will say when it is over.
    let reopened = transaction.execute(
        "UPDATE incident SET resolved_at = NULL, updated_at = ?2 WHERE id = ?1 AND (resolved_at IS NULL OR NOT EXISTS (
             SELECT 1 FROM incident AS other WHERE other.key = incident.key AND other.resolved_at IS NULL))",
        params![incident, now()],
    )?;
    // The next incident of the same trouble is open: what fires on belongs there, and will be told again.
    if reopened == 0 {
        return Ok(status.to_owned());
    }
    transaction.execute(
        "UPDATE signal SET status = 'firing', ends_at = NULL WHERE id = ?1",
        [id],
    )?;
    Ok(Status::Firing.as_str().to_owned())
}

fn labels(alert: &serde_json::Value) -> BTreeMap<String, String> {
    serde_json::from_value(alert["labels"].clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Ten thousand alerts of one name are accepted in one burst: each must find its like without reading the others.
    #[test]
    fn the_same_alert_is_looked_up_by_its_labels() {
        let mut connection = Connection::open_in_memory().expect("a database");
        super::super::migrate::migrate(&mut connection, std::path::Path::new("memory")).expect("migrated");
        let plan: String = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {SAME_ALERT}"))
            .and_then(|mut plan| plan.query_row(params!["", "", "", 0, 0, false], |row| row.get(3)))
            .expect("a plan");
        assert_eq!(
            plan.matches("<expr>=?").count(),
            3,
            "{plan}: the index signal_by_alert is not used with all its labels"
        );
        assert!(plan.contains("signal_by_alert"), "{plan}");
    }
}
