//! Properties of the codecs, through the public interface.

mod arbitrary;
mod generate;
mod round_trip;
