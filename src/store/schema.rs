//! The tables, as Diesel sees them in both databases, and as `copy` copies them. A test holds this file against the migrations.
//!
//! A new table gets a `table!` and a place in `all_tables!`.
#![expect(missing_docs, reason = "the columns are described where they are created, in migrations")]

use super::copy::table::{all_tables, table};

table! {
    meta (key) {
        key -> Text,
        value -> Text,
    }
}

table! {
    nodes (id) {
        id -> BigInt,
        name -> Text,
        instance -> Text,
        version -> Text,
        pid -> BigInt,
        started_at -> BigInt,
        lease_until -> BigInt,
        stopped_at -> Nullable<BigInt>,
        labels -> Text,
        revision -> Nullable<Text>,
        clock_skew_us -> Nullable<BigInt>,
        draining_since -> Nullable<BigInt>,
        draining_by -> Nullable<Text>,
    }
}

table! {
    jobs (id) {
        id -> BigInt,
        submission -> BigInt,
        kind -> Text,
        schedule -> Nullable<Text>,
        nominal_at -> Nullable<BigInt>,
        queue -> Text,
        priority -> SmallInt,
        rank -> BigInt,
        params -> Text,
        labels -> Nullable<Text>,
        settings -> Nullable<Text>,
        unique_key -> Nullable<Text>,
        run_at -> BigInt,
        created_at -> BigInt,
        actor -> Text,
        node_id -> BigInt,
    }
}

table! {
    job_labels (label, job_id) {
        label -> Text,
        job_id -> BigInt,
    }
}

table! {
    jobs_scheduled (run_at, job_id) {
        run_at -> BigInt,
        job_id -> BigInt,
        number -> Integer,
        charged -> Integer,
    }
}

table! {
    jobs_ready (subqueue, rank, job_id) {
        subqueue -> Text,
        rank -> BigInt,
        job_id -> BigInt,
        number -> Integer,
        charged -> Integer,
    }
}

table! {
    jobs_running (job_id) {
        job_id -> BigInt,
        number -> Integer,
        charged -> Integer,
        node_id -> BigInt,
        started_at -> BigInt,
        progress -> Nullable<SmallInt>,
        message -> Nullable<Text>,
        cancel_requested_at -> Nullable<BigInt>,
        cancel_requested_by -> Nullable<Text>,
        subqueue -> Text,
    }
}

table! {
    jobs_blocked (job_id) {
        job_id -> BigInt,
    }
}

table! {
    job_dependencies (job_id, depends_on) {
        job_id -> BigInt,
        depends_on -> BigInt,
        needs -> Text,
    }
}

table! {
    batches (job_id) {
        job_id -> BigInt,
        total -> Integer,
        completed -> Integer,
        failed -> Integer,
        cancelled -> Integer,
        is_open -> SmallInt,
        cancelled_by -> Nullable<Text>,
        retry_from -> Nullable<Integer>,
    }
}

table! {
    batch_items (batch_id, position) {
        batch_id -> BigInt,
        position -> Integer,
        name -> Text,
        job_id -> BigInt,
        state -> Nullable<Text>,
    }
}

table! {
    job_priorities (job_id) {
        job_id -> BigInt,
        priority -> SmallInt,
        rank -> BigInt,
    }
}

table! {
    job_replacements (job_id) {
        job_id -> BigInt,
        replaced_by -> BigInt,
    }
}

table! {
    whole_batches (job_id) {
        job_id -> BigInt,
        total -> Integer,
        completed -> Integer,
        failed -> Integer,
    }
}

table! {
    whole_batch_items (job_id, position) {
        job_id -> BigInt,
        position -> Integer,
        name -> Text,
        params -> Nullable<Text>,
        state -> Nullable<Text>,
        attempt -> Nullable<Integer>,
        error -> Nullable<Text>,
        result -> Nullable<Text>,
    }
}

table! {
    idempotency_keys (key) {
        key -> Text,
        request -> Text,
        jobs -> Text,
        created_at -> BigInt,
    }
}

table! {
    job_checkpoints (job_id) {
        job_id -> BigInt,
        checkpoint -> Text,
    }
}

table! {
    unique_keys (key) {
        key -> Text,
        job_id -> BigInt,
        expires_at -> Nullable<BigInt>,
    }
}

table! {
    attempts (id) {
        id -> BigInt,
        job_id -> BigInt,
        number -> Integer,
        outcome -> Text,
        node_id -> BigInt,
        started_at -> BigInt,
        finished_at -> BigInt,
        exit_code -> Nullable<Integer>,
        error -> Nullable<Text>,
        output_tail -> Nullable<Text>,
    }
}

table! {
    job_results (job_id) {
        job_id -> BigInt,
        state -> Text,
        finished_at -> BigInt,
        attempts -> Integer,
        charged -> Integer,
        error -> Nullable<Text>,
        result -> Nullable<Text>,
    }
}

table! {
    schedules (id) {
        id -> Text,
        definition -> Text,
        decided_until -> BigInt,
        last_end_at -> Nullable<BigInt>,
        paused_at -> Nullable<BigInt>,
        paused_until -> Nullable<BigInt>,
        paused_by -> Nullable<Text>,
        pause_reason -> Nullable<Text>,
        last_success_at -> Nullable<BigInt>,
    }
}

table! {
    schedule_followers (schedule, follower, on_end) {
        schedule -> Text,
        follower -> Text,
        on_end -> Text,
    }
}

table! {
    ends_to_follow (follower, ended_at) {
        follower -> Text,
        ended_at -> BigInt,
        schedule -> Text,
        job_id -> BigInt,
        state -> Text,
    }
}

table! {
    waiting_instants (schedule, nominal_at) {
        schedule -> Text,
        nominal_at -> BigInt,
        wait_until -> BigInt,
    }
}

table! {
    schedule_live (schedule, job_id) {
        schedule -> Text,
        job_id -> BigInt,
    }
}

table! {
    occurrences (id) {
        id -> BigInt,
        schedule -> Text,
        nominal_at -> BigInt,
        decision -> Text,
        reason -> Text,
        job_id -> Nullable<BigInt>,
        decided_at -> BigInt,
        revision -> Text,
        instants -> BigInt,
        actor -> Text,
        node_id -> BigInt,
    }
}

table! {
    job_statistics (day, schedule, kind) {
        day -> Text,
        schedule -> Text,
        kind -> Text,
        completed -> BigInt,
        failed -> BigInt,
        cancelled -> BigInt,
        attempts -> BigInt,
        duration_total_us -> BigInt,
        duration_max_us -> BigInt,
        wait_total_us -> BigInt,
        wait_max_us -> BigInt,
    }
}

table! {
    limits (name) {
        name -> Text,
        max -> Integer,
        set_at -> BigInt,
        set_by -> Text,
        rate -> Nullable<Text>,
        breaker -> Nullable<Text>,
    }
}

table! {
    breakers (name) {
        name -> Text,
        failed_at -> Text,
        tripped_at -> Nullable<BigInt>,
        why -> Nullable<Text>,
        probe_job -> Nullable<BigInt>,
        probe_number -> Nullable<Integer>,
    }
}

table! {
    rate_buckets (name) {
        name -> Text,
        full_at -> BigInt,
    }
}

table! {
    api_tokens (name) {
        name -> Text,
        secret_sha256 -> Text,
        role -> Text,
        rate -> Nullable<Text>,
        created_at -> BigInt,
        created_by -> Text,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        revoked_by -> Nullable<Text>,
    }
}

table! {
    queues (name) {
        name -> Text,
        paused_at -> Nullable<BigInt>,
        paused_by -> Nullable<Text>,
        pause_reason -> Nullable<Text>,
        workers -> Nullable<Integer>,
        rate -> Nullable<Text>,
        timeout -> Nullable<BigInt>,
        set_at -> Nullable<BigInt>,
        set_by -> Nullable<Text>,
    }
}

table! {
    audit_events (id) {
        id -> BigInt,
        at -> BigInt,
        event -> Text,
        actor -> Text,
        subject -> Text,
        detail -> Text,
        node_id -> BigInt,
    }
}

table! {
    audit_anchors (log, seq) {
        log -> Text,
        seq -> BigInt,
        hash -> Text,
        at -> BigInt,
        occurrences -> BigInt,
        jobs -> BigInt,
        attempts -> BigInt,
        events -> BigInt,
    }
}

all_tables!(
    meta,
    nodes,
    jobs,
    job_labels,
    jobs_scheduled,
    jobs_ready,
    jobs_running,
    jobs_blocked,
    job_dependencies,
    batches,
    batch_items,
    job_priorities,
    job_replacements,
    whole_batches,
    whole_batch_items,
    idempotency_keys,
    job_checkpoints,
    unique_keys,
    attempts,
    job_results,
    schedules,
    schedule_followers,
    ends_to_follow,
    waiting_instants,
    schedule_live,
    occurrences,
    job_statistics,
    queues,
    limits,
    rate_buckets,
    breakers,
    api_tokens,
    audit_events,
    audit_anchors,
);
