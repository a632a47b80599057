//! The tables, as Diesel sees them in both databases. A test holds this file against the migrations.
#![expect(missing_docs, reason = "the columns are described where they are created, in migrations")]

diesel::table! {
    meta (key) {
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
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

diesel::table! {
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

diesel::table! {
    job_labels (label, job_id) {
        label -> Text,
        job_id -> BigInt,
    }
}

diesel::table! {
    jobs_scheduled (run_at, job_id) {
        run_at -> BigInt,
        job_id -> BigInt,
        number -> Integer,
        charged -> Integer,
    }
}

diesel::table! {
    jobs_ready (subqueue, rank, job_id) {
        subqueue -> Text,
        rank -> BigInt,
        job_id -> BigInt,
        number -> Integer,
        charged -> Integer,
    }
}

diesel::table! {
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

diesel::table! {
    jobs_blocked (job_id) {
        job_id -> BigInt,
    }
}

diesel::table! {
    job_dependencies (job_id, depends_on) {
        job_id -> BigInt,
        depends_on -> BigInt,
        needs -> Text,
    }
}

diesel::table! {
    batches (job_id) {
        job_id -> BigInt,
        total -> Integer,
        completed -> Integer,
        failed -> Integer,
        cancelled -> Integer,
        is_open -> SmallInt,
        cancelled_by -> Nullable<Text>,
    }
}

diesel::table! {
    batch_items (batch_id, position) {
        batch_id -> BigInt,
        position -> Integer,
        name -> Text,
        job_id -> BigInt,
        state -> Nullable<Text>,
    }
}

diesel::table! {
    job_priorities (job_id) {
        job_id -> BigInt,
        priority -> SmallInt,
        rank -> BigInt,
    }
}

diesel::table! {
    job_replacements (job_id) {
        job_id -> BigInt,
        replaced_by -> BigInt,
    }
}

diesel::table! {
    whole_batches (job_id) {
        job_id -> BigInt,
        total -> Integer,
        completed -> Integer,
        failed -> Integer,
    }
}

diesel::table! {
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

diesel::table! {
    idempotency_keys (key) {
        key -> Text,
        request -> Text,
        jobs -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    job_checkpoints (job_id) {
        job_id -> BigInt,
        checkpoint -> Text,
    }
}

diesel::table! {
    unique_keys (key) {
        key -> Text,
        job_id -> BigInt,
        expires_at -> Nullable<BigInt>,
    }
}

diesel::table! {
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

diesel::table! {
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

diesel::table! {
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

diesel::table! {
    schedule_followers (schedule, follower, on_end) {
        schedule -> Text,
        follower -> Text,
        on_end -> Text,
    }
}

diesel::table! {
    ends_to_follow (follower, ended_at) {
        follower -> Text,
        ended_at -> BigInt,
        schedule -> Text,
        job_id -> BigInt,
        state -> Text,
    }
}

diesel::table! {
    waiting_instants (schedule, nominal_at) {
        schedule -> Text,
        nominal_at -> BigInt,
        wait_until -> BigInt,
    }
}

diesel::table! {
    schedule_live (schedule, job_id) {
        schedule -> Text,
        job_id -> BigInt,
    }
}

diesel::table! {
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

diesel::table! {
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

diesel::table! {
    limits (name) {
        name -> Text,
        max -> Integer,
        set_at -> BigInt,
        set_by -> Text,
        rate -> Nullable<Text>,
    }
}

diesel::table! {
    rate_buckets (name) {
        name -> Text,
        full_at -> BigInt,
    }
}

diesel::table! {
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

diesel::table! {
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

diesel::table! {
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

diesel::allow_tables_to_appear_in_same_query!(
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
    audit_events,
    audit_anchors,
);
