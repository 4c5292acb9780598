use buttress_core::Rejectable;

use crate::{Convention, Describe, Ended, Operation, Side};

/// Any call: the metric `buttress.call.duration`, and no operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Convention for Plain {
    fn metric(&self) -> &'static str {
        "buttress.call.duration"
    }

    fn side(&self) -> Side {
        Side::Internal
    }
}

impl<Req, Res, Err: Rejectable> Describe<Req, Res, Err> for Plain {
    #[inline]
    fn operation<'a>(&'a self, _: &'a Req) -> Operation<'a> {
        Operation::new()
    }

    #[inline]
    fn end(result: &Result<Res, Err>) -> Ended<'_> {
        match result {
            Ok(_) => Ended::new(),
            Err(error) => error.rejected().map_or_else(Ended::new, Ended::rejected),
        }
    }
}
