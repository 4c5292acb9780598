use buttress_simulator::*;

use super::given::*;

check! {
    "simulator":
    values: [
        Arrivals, Answer, BackendService, Load, WhenCallerLeaves, Call, Event, What, BackendFigures,
        Period<'static>, Report, Sample
    ];
    handles: [Backend, Callers, Durations, Simulation];
    owned: [World];
    errors: [BackendError, Stalled];
    futures: [Answering];
    send_futures: [];
    send_only: [];
    traits: [];
}
