/// One stripe for each processor: more threads share them.
pub(crate) fn stripes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(64)
}
