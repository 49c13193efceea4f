//! One suite of behaviour for every twin of [`crate::Transport`]: what the
//! rooms above rely on must hold on sockets and in the simulator alike.

mod calls;
mod connections;
mod joins;
pub(crate) mod twin;

/// Makes a test of each behaviour for one twin: a function that gives a
/// [`twin::Twin`] with two admitted nodes that know each other's address.
macro_rules! behaves {
    ($name:ident, $runtime:expr, $twin:path, [$($module:ident :: $behaviour:ident),* $(,)?]) => {
        mod $name {
            $(#[test]
            fn $behaviour() {
                let runtime = $runtime;
                runtime.block_on(async { super::$module::$behaviour($twin().await).await });
            })*
        }
    };
}

macro_rules! all_behaviours {
    ($name:ident, $runtime:expr, $twin:path) => {
        behaves!(
            $name,
            $runtime,
            $twin,
            [
                connections::frames_arrive_in_order_both_ways,
                connections::a_slow_receiver_stops_the_sender,
                connections::the_largest_frame_passes_and_a_larger_one_is_not_taken,
                connections::dropping_one_end_ends_the_other,
                connections::closing_one_end_ends_the_other,
                connections::what_was_sent_before_a_drop_arrives,
                connections::shutdown_ends_accepting_and_connections,
                calls::replies_find_their_calls,
                calls::handlers_see_calls_in_order,
                calls::a_break_fails_calls_in_flight_and_the_next_call_reconnects,
                calls::a_cut_ends_both_directions,
                calls::a_deadline_ends_a_call,
                calls::a_node_calls_itself,
                calls::an_unknown_service_refuses,
                calls::too_many_calls_are_refused,
                calls::more_than_the_queue_holds_arrives_in_order,
                calls::after_shutdown_calls_fail,
                calls::notices_arrive,
                calls::links_show_who_is_connected,
                calls::an_unreachable_node_fails_calls,
                calls::handlers_at_once_are_bounded,
                calls::a_frame_that_is_no_envelope_ends_that_connection_only,
                calls::a_newer_connection_replaces_the_older,
                joins::a_ticket_admits_who_knows_its_secret,
                joins::a_ticket_without_its_secret_is_worth_nothing,
                joins::the_handler_refuses_in_its_own_words,
                joins::without_a_handler_nobody_joins,
                joins::the_first_contact_that_answers_decides,
                joins::a_contact_that_nobody_runs_is_no_contact,
                joins::too_long_a_request_is_not_sent,
            ]
        );
    };
}

all_behaviours!(tls, crate::suite::twin::real_runtime(), crate::suite::twin::tls);
all_behaviours!(simulated, crate::suite::twin::paused_runtime(), crate::suite::twin::simulated);
