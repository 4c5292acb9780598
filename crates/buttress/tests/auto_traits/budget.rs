use buttress_budget::*;

use super::given::*;

check! {
    "budget":
    values: [];
    handles: [Budget];
    owned: [];
    errors: [InvalidBudget];
    futures: [];
    send_futures: [];
    send_only: [];
    traits: [];
}
