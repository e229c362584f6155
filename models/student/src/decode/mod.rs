//! Decoding: drafting from the trie of known answers, greedy verification, probabilities.
