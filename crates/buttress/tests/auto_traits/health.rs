use buttress_health::*;

use super::given::*;

check! {
    "health":
    values: [Cause, Change, Event, PartReport, Report, Overall, State, Status, Watch];
    handles: [Health, Signal];
    owned: [];
    errors: [InvalidConfig, NotReady];
    futures: [];
    send_futures: [];
    send_only: [HealthBuilder, Part, Probe];
    traits: [];
}
