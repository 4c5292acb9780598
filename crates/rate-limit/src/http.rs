//! Header fields of rate limits, said and obeyed.
