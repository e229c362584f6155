//! The tokenizer of the model file: Qwen2's byte-level pairs.
//!
//! Terms: a *control* token steers the chat (`<|im_end|>`) and is left out when text is made from tokens; an *added*
//! token is matched whole before the pairs are merged (control tokens, and user-defined ones, which stay in the text).
//! [`Tokens::encode`] matches added tokens and equals the Hugging Face tokenizer; [`Tokens::encode_plain`] matches
//! none, so that a question from outside can never write a control token into the prompt.
//!
//! Why not the reader in candle: it marks user-defined and unused entries as special (they then vanish from answers,
//! and the padding entries `[PAD…]` of converted files match in text), and its pattern lost the case folding of the
//! contractions. Never reads files: the caller hands over the lists of the model file's metadata.

use thiserror::Error;
use tokenizers::decoders::byte_level::ByteLevel as ByteDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

/// Most entries of a vocabulary (the 7B student has 152,064).
pub const MAX_TOKENS: usize = 262_144;
/// Most merges of a vocabulary.
pub const MAX_MERGES: usize = 524_288;
/// Longest entry, bytes.
pub const MAX_TOKEN_BYTES: usize = 1_024;
/// Longest text put in at once, bytes: far above any prompt, and below what makes the pattern give up.
pub const MAX_TEXT_BYTES: usize = 65_536;

/// Qwen2's pattern, as its tokenizer.json has it (a fact of the model's training): contractions in either case,
/// words with one leading sign, single digits, runs of signs, line ends, white space.
const PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"|\s+(?!\S)|\s+"
);

/// What can be wrong with a vocabulary or a text.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// More entries, merges or bytes than the capacity.
    #[error("{what}: {have}, above the capacity of {limit}")]
    TooMany {
        /// Which list or text.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Another pre-tokenizer or model than Qwen2's.
    #[error("tokenizer \"{0}\" is not known: only gpt2 with pre-tokenizer qwen2 is")]
    Unknown(String),
    /// Two entries with the same text.
    #[error("token {second} repeats the text of an earlier one")]
    Repeated {
        /// The later of the two.
        second: usize,
    },
    /// A merge that is not two parts.
    #[error("merge {0} is not two parts")]
    Merge(usize),
    /// The lists do not fit together.
    #[error("{0}")]
    Inconsistent(String),
    /// A token that the chat format needs is missing.
    #[error("the vocabulary has no token {0}")]
    Missing(&'static str),
    /// The library refused.
    #[error("tokenizer: {0}")]
    Library(String),
}

impl From<tokenizers::Error> for TokenizerError {
    fn from(error: tokenizers::Error) -> Self {
        TokenizerError::Library(error.to_string())
    }
}

/// The lists of `tokenizer.ggml.*` in a model file.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Text of each token in byte-level writing; the place is the id.
    pub tokens: Vec<String>,
    /// Kind of each token as GGUF counts them: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub kinds: Vec<u32>,
    /// Merges, "left right", best first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.model`: must be "gpt2".
    pub model: String,
    /// `tokenizer.ggml.pre`: must be "qwen2".
    pub pre: String,
    /// Token that ends an answer (`tokenizer.ggml.eos_token_id`).
    pub end: u32,
}

/// Ids of the chat format's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatTokens {
    /// `<|im_start|>`.
    pub start: u32,
    /// `<|im_end|>`, which ends an answer.
    pub end: u32,
    /// `<|endoftext|>`, which ends an answer too where the vocabulary has it.
    pub end_of_text: Option<u32>,
}

/// A tokenizer ready for use.
pub struct Tokens {
    inner: Tokenizer,
    chat: ChatTokens,
    kinds: Vec<u32>,
}

const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

impl Tokens {
    /// Builds the tokenizer from the lists of a model file.
    ///
    /// # Errors
    /// Names the list, entry or token that is wrong.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, TokenizerError> {
        check(&vocabulary)?;
        let Vocabulary { tokens, kinds, merges, end, .. } = vocabulary;
        let mut pairs = Vec::with_capacity(merges.len());
        for (i, merge) in merges.iter().enumerate() {
            let (a, b) = merge.split_once(' ').ok_or(TokenizerError::Merge(i))?;
            if a.is_empty() || b.is_empty() || b.contains(' ') {
                return Err(TokenizerError::Merge(i));
            }
            pairs.push((a.to_owned(), b.to_owned()));
        }
        let count = tokens.len();
        let mut map = tokenizers::models::bpe::Vocab::with_capacity(count);
        for (i, token) in tokens.iter().enumerate() {
            if map.insert(token.clone(), i as u32).is_some() {
                return Err(TokenizerError::Repeated { second: i });
            }
        }
        let mut inner = Tokenizer::new(BPE::builder().vocab_and_merges(map, pairs).build()?);
        inner.with_normalizer(Some(NFC))?;
        let split = Split::new(SplitPattern::Regex(PATTERN.into()), SplitDelimiterBehavior::Isolated, false)?;
        let bytes = ByteLevel::new(false, false, false);
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::from(split),
            PreTokenizerWrapper::from(bytes),
        ])));
        inner.with_decoder(Some(ByteDecoder::new(false, false, false)));
        let of_kind = |kind: u32, special: bool| {
            let of = tokens.iter().zip(&kinds).filter(move |(_, k)| **k == kind);
            of.map(move |(t, _)| AddedToken::from(t.clone(), special).normalized(false)).collect::<Vec<_>>()
        };
        inner.add_special_tokens(of_kind(CONTROL, true))?;
        inner.add_tokens(of_kind(USER_DEFINED, false))?;
        let chat = ChatTokens {
            start: inner.token_to_id("<|im_start|>").ok_or(TokenizerError::Missing("<|im_start|>"))?,
            end,
            end_of_text: inner.token_to_id("<|endoftext|>"),
        };
        Ok(Self { inner, chat, kinds })
    }

    /// Ids of the chat format's tokens.
    pub fn chat(&self) -> ChatTokens {
        self.chat
    }

    /// Number of tokens in the vocabulary. The model may have more rows than that: padding.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether the vocabulary is empty; never, since the chat's tokens are required.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Whether `id` ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        id == self.chat.end || Some(id) == self.chat.end_of_text
    }

    /// Id of the token with this text, in byte-level writing.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Ids of `text`, added tokens matched: what the Hugging Face tokenizer gives with `add_special_tokens=False`.
    ///
    /// # Errors
    /// If the text is above [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        bounded("text in bytes", text.len(), MAX_TEXT_BYTES)?;
        Ok(self.inner.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// Ids of `text` with no added token matched: `<|im_end|>` in it becomes ordinary signs and letters.
    ///
    /// # Errors
    /// If the text is above [`MAX_TEXT_BYTES`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        bounded("text in bytes", text.len(), MAX_TEXT_BYTES)?;
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut normalized)?;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        if let Some(pre) = self.inner.get_pre_tokenizer() {
            pre.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
        let mut ids = Vec::new();
        for (_, _, tokens) in pieces.get_splits(OffsetReferential::Original, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id));
        }
        Ok(ids)
    }

    /// Text of `ids`; control tokens and padding are left out, broken UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let known: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| self.kinds.get(*id as usize).is_some_and(|kind| matches!(*kind, 1 | USER_DEFINED | 6)))
            .collect();
        Ok(self.inner.decode(&known, true)?)
    }
}

fn bounded(what: &'static str, have: usize, limit: usize) -> Result<(), TokenizerError> {
    if have > limit { Err(TokenizerError::TooMany { what, have, limit }) } else { Ok(()) }
}

fn check(v: &Vocabulary) -> Result<(), TokenizerError> {
    if v.model != "gpt2" || v.pre != "qwen2" {
        return Err(TokenizerError::Unknown(format!("{}/{}", v.model, v.pre)));
    }
    bounded("tokens", v.tokens.len(), MAX_TOKENS)?;
    bounded("merges", v.merges.len(), MAX_MERGES)?;
    if let Some(long) = v.tokens.iter().find(|t| t.len() > MAX_TOKEN_BYTES) {
        return Err(TokenizerError::TooMany { what: "bytes of a token", have: long.len(), limit: MAX_TOKEN_BYTES });
    }
    if v.kinds.len() != v.tokens.len() {
        let (kinds, tokens) = (v.kinds.len(), v.tokens.len());
        return Err(TokenizerError::Inconsistent(format!("{kinds} token kinds for {tokens} tokens")));
    }
    if v.end as usize >= v.tokens.len() {
        return Err(TokenizerError::Inconsistent(format!("end token {} is not in the vocabulary", v.end)));
    }
    Ok(())
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("len", &self.kinds.len()).field("chat", &self.chat).finish()
    }
}

impl From<TokenizerError> for crate::error::StudentError {
    fn from(error: TokenizerError) -> Self {
        crate::error::StudentError::Tokenizer { what: error.to_string() }
    }
}
