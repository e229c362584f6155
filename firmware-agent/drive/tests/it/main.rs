//! What a drive promises: it gives back what went in, it gives up what is whole when it is damaged, and importers
//! say what they could not use.

mod broken;
mod damage;
mod dbc;
mod importers;
mod roundtrip;
mod util;
