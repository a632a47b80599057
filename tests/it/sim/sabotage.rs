//! Tests of the checker: a database that cheats in one way each, which a few seeds must bring to light.

use super::Kind;

/// How many seeds there are to notice it. Each kind of damage is noticed by nearly every seed in which it happens at all.
const SEEDS: u64 = 60;

/// A database with this trigger is noticed, and said to be wrong in these words.
fn is_noticed(sabotage: &str, words: &str) {
    is_noticed_by(Kind::Alone, sabotage, words);
}

fn is_noticed_by(kind: Kind, sabotage: &str, words: &str) {
    let mut said = Vec::new();
    for seed in 0..SEEDS {
        let wrong = kind.run_with(seed, Some(sabotage)).wrong;
        if wrong.iter().any(|what| what.contains(words)) {
            return;
        }
        said.extend(wrong);
    }
    panic!("nobody noticed; what was said: {said:?}");
}

#[test]
fn a_job_that_was_accepted_and_lost_is_noticed() {
    is_noticed(
        "CREATE TRIGGER lose AFTER INSERT ON jobs_ready WHEN NEW.job_id % 6 = 0 AND NEW.number = 0
         BEGIN DELETE FROM jobs_ready WHERE job_id = NEW.job_id; DELETE FROM jobs WHERE id = NEW.job_id; END;",
        "was promised",
    );
}

#[test]
fn a_job_that_falls_out_of_the_queue_is_noticed() {
    is_noticed(
        "CREATE TRIGGER lose AFTER INSERT ON jobs_ready WHEN NEW.job_id % 6 = 0
         BEGIN DELETE FROM jobs_ready WHERE job_id = NEW.job_id; END;",
        "is in no final state",
    );
}

#[test]
fn a_finish_that_is_not_the_owners_is_noticed() {
    // As if the late report of a dead node were taken: the attempt that was given back counts as done.
    is_noticed(
        "CREATE TRIGGER take AFTER INSERT ON attempts WHEN NEW.outcome = 'interrupted'
         BEGIN UPDATE attempts SET outcome = 'success' WHERE id = NEW.id; END;",
        "its handler",
    );
}

#[test]
fn an_attempt_that_leaves_no_record_is_noticed() {
    is_noticed(
        "CREATE TRIGGER lose AFTER INSERT ON attempts WHEN NEW.job_id % 5 = 0
         BEGIN DELETE FROM attempts WHERE id = NEW.id; END;",
        "of which there is no record",
    );
}

#[test]
fn an_instant_that_vanishes_is_noticed() {
    is_noticed(
        "CREATE TRIGGER lose AFTER INSERT ON occurrences WHEN NEW.id % 4 = 0 AND NEW.decision <> 'enqueued'
         BEGIN DELETE FROM occurrences WHERE id = NEW.id; END;",
        "was passed over without a row",
    );
}

#[test]
fn an_end_that_nobody_notes_is_noticed() {
    is_noticed(
        "CREATE TRIGGER lose BEFORE INSERT ON ends_to_follow BEGIN SELECT RAISE(IGNORE); END;",
        "was not noted for",
    );
}

#[test]
fn an_end_that_is_forgotten_before_it_is_followed_is_noticed() {
    is_noticed(
        // Behind the record of it: which of two triggers of one table comes first is not said.
        "CREATE TRIGGER lose AFTER INSERT ON sim_record WHEN NEW.what = 'end+'
         BEGIN DELETE FROM ends_to_follow WHERE follower = NEW.t AND ended_at = NEW.a; END;",
        "vanished without a row",
    );
}

#[test]
fn an_instant_that_waits_for_ever_is_noticed() {
    is_noticed(
        "CREATE TRIGGER forget AFTER INSERT ON waiting_instants
         BEGIN DELETE FROM waiting_instants WHERE schedule = NEW.schedule AND nominal_at = NEW.nominal_at; END;",
        "says that it waits since",
    );
}

#[test]
fn a_job_that_runs_again_after_its_cancel_is_noticed() {
    is_noticed(
        "CREATE TRIGGER revive AFTER INSERT ON job_results WHEN NEW.state = 'cancelled' AND NEW.attempts = 0
         BEGIN DELETE FROM job_results WHERE job_id = NEW.job_id;
               INSERT INTO jobs_ready SELECT queue, rank, id, 0, 0 FROM jobs WHERE id = NEW.job_id; END;",
        "after it was Cancelled",
    );
}

#[test]
fn a_claim_out_of_turn_is_noticed() {
    // The rows say one order, the record of them another.
    is_noticed(
        "CREATE TRIGGER turn AFTER INSERT ON jobs_ready WHEN NEW.job_id % 2 = 0
         BEGIN UPDATE sim_record SET a = -a WHERE seq = (SELECT max(seq) FROM sim_record) AND what = 'ready+'; END;",
        "whose turn it was",
    );
}

#[test]
fn a_second_live_job_of_a_schedule_that_allows_one_is_noticed() {
    is_noticed(
        "CREATE TRIGGER forget AFTER INSERT ON schedule_live
         BEGIN DELETE FROM schedule_live WHERE job_id = NEW.job_id;
               DELETE FROM sim_record WHERE what = 'live-' AND job = NEW.job_id; END;",
        "joined live jobs",
    );
}

#[test]
fn a_change_behind_the_audit_logs_back_is_noticed() {
    is_noticed(
        "CREATE TRIGGER lie AFTER INSERT ON audit_anchors WHEN NEW.seq > 3
         BEGIN UPDATE audit_anchors SET hash = replace(hash, 'a', 'b') WHERE seq = NEW.seq; END;",
        "audit log",
    );
}

#[test]
fn a_limit_that_is_exceeded_is_noticed() {
    // The claim does not see what runs under keys.
    is_noticed(
        "CREATE TRIGGER hide AFTER INSERT ON jobs_running WHEN NEW.subqueue LIKE '%/key:%'
         BEGIN UPDATE jobs_running SET subqueue = 'hidden' WHERE job_id = NEW.job_id; END;",
        "which allows",
    );
}

/// What only several nodes can do wrong.
mod of_several_nodes {
    use super::{Kind, is_noticed_by};

    fn is_noticed(sabotage: &str, words: &str) {
        is_noticed_by(Kind::Several, sabotage, words);
    }

    #[test]
    fn a_lease_that_others_do_not_respect_is_noticed() {
        // Whoever looks sees the same lease whenever it looks.
        is_noticed(
            "CREATE TRIGGER hide AFTER UPDATE OF lease_until ON nodes
             BEGIN UPDATE nodes SET lease_until = 7 WHERE id = NEW.id; END;",
            "starts while attempt",
        );
    }

    #[test]
    fn a_finish_that_ignores_the_fence_is_noticed() {
        // As if the late report of a node that was taken for dead were taken beside that of whoever took over.
        is_noticed(
            "CREATE TRIGGER take AFTER INSERT ON attempts WHEN NEW.outcome = 'interrupted'
             BEGIN UPDATE attempts SET outcome = 'success' WHERE id = NEW.id; END;",
            "its handler",
        );
    }

    #[test]
    fn a_claim_that_leaves_the_job_in_the_queue_is_noticed() {
        is_noticed(
            "CREATE TRIGGER leave AFTER INSERT ON jobs_running WHEN NEW.job_id % 5 = 0 AND NEW.number = 1
             BEGIN INSERT INTO jobs_ready (subqueue, rank, job_id, number, charged)
                   SELECT NEW.subqueue, rank, id, NEW.number, 0 FROM jobs WHERE id = NEW.job_id; END;",
            "did not come true",
        );
    }

    #[test]
    fn an_instant_that_two_nodes_record_is_noticed() {
        // The row of the first one does not keep the second from writing its own.
        is_noticed(
            "CREATE TRIGGER move AFTER INSERT ON occurrences WHEN NEW.actor = 'scheduler' AND NEW.id % 3 = 0
             BEGIN UPDATE occurrences SET nominal_at = nominal_at + 1 WHERE id = NEW.id; END;",
            "has no instant at",
        );
    }

    #[test]
    fn a_limit_that_each_node_counts_for_itself_is_noticed() {
        is_noticed(
            "CREATE TRIGGER hide AFTER INSERT ON jobs_running WHEN NEW.subqueue LIKE '%/k%'
             BEGIN UPDATE jobs_running SET subqueue = 'hidden' WHERE job_id = NEW.job_id; END;",
            "which allows",
        );
    }

    #[test]
    fn a_row_that_is_in_nobodys_audit_log_is_noticed() {
        is_noticed(
            "CREATE TRIGGER lose AFTER INSERT ON attempts WHEN NEW.id % 5 = 0
             BEGIN UPDATE attempts SET node_id = 0 WHERE id = NEW.id; END;",
            "the audit log lacks",
        );
    }
}
