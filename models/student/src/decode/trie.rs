//! The known answers of a task as a tree of tokens.
//!
//! Terms: a *leaf* is the end token after an answer's last one; a *branch point* is a node with more than one child.
//! Answers come most frequent first, and their weight falls with their rank (Zipf's law), because the model file keeps
//! the order and no counts. Knows no logits.

use super::limits::{MAX_KNOWN_TOKENS, MAX_TRIE_NODES};
use crate::error::{Result, StudentError};

/// Least share of the weight that a side of a branch point must have for a draft to go there.
const GOOD_SHARE: f32 = 0.4;

/// The tree. Node 0 is the root.
#[derive(Clone, Debug)]
pub struct Trie {
    nodes: Vec<Node>,
    end: u32,
    answers: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// (token, node), by token.
    children: Vec<(u32, u32)>,
    /// The answer that ends here, on leaves.
    answer: Option<u32>,
    weight: f32,
}

impl Trie {
    /// Builds the tree of `answers` (tokens without the end token), most frequent first. The number of an answer is
    /// its place; one that repeats an earlier one is that one. Empty answers are left out.
    ///
    /// # Errors
    /// [`StudentError::Limit`] if an answer or the tree is above its capacity.
    pub fn new<A: AsRef<[u32]>>(end: u32, answers: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut trie = Self { nodes: vec![Node::default()], end, answers: 0 };
        for (number, answer) in answers.into_iter().enumerate() {
            let tokens = answer.as_ref();
            limit("tokens of a known answer", tokens.len(), MAX_KNOWN_TOKENS)?;
            if tokens.is_empty() || tokens.contains(&end) {
                continue;
            }
            let weight = 1.0 / (1.0 + number as f32);
            let mut at = 0_u32;
            for token in tokens.iter().copied().chain([end]) {
                at = trie.child_or_new(at, token)?;
                trie.nodes[at as usize].weight += weight;
            }
            let leaf = &mut trie.nodes[at as usize];
            if leaf.answer.is_none() {
                leaf.answer = Some(number as u32);
                trie.answers += 1;
            }
        }
        Ok(trie)
    }

    fn child_or_new(&mut self, at: u32, token: u32) -> Result<u32> {
        let next = self.nodes.len();
        let children = &mut self.nodes[at as usize].children;
        match children.binary_search_by_key(&token, |(t, _)| *t) {
            Ok(i) => Ok(children[i].1),
            Err(i) => {
                limit("nodes of the known answers", next + 1, MAX_TRIE_NODES)?;
                children.insert(i, (token, next as u32));
                self.nodes.push(Node::default());
                Ok(next as u32)
            }
        }
    }

    /// The end token that leads to the leaves.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Number of distinct answers.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Children of a node as (token, node), by token. Empty for a leaf and for a node that is not there.
    pub fn children(&self, node: u32) -> &[(u32, u32)] {
        self.nodes.get(node as usize).map_or(&[], |n| &n.children)
    }

    /// The child over `token`.
    pub fn child(&self, node: u32, token: u32) -> Option<u32> {
        let children = self.children(node);
        children.binary_search_by_key(&token, |(t, _)| *t).ok().map(|i| children[i].1)
    }

    /// The answer that ends at a leaf.
    pub fn answer(&self, node: u32) -> Option<u32> {
        self.nodes.get(node as usize).and_then(|n| n.answer)
    }

    /// Appends to `out` at most `most` tokens that follow `node`, without the end token: straight on where there is one
    /// child; at the first `through` branch points to the heaviest side, if it has a good share of all sides' weight
    /// (the digits of times have not: a guess there is mostly a row wasted); and stops at any other.
    pub fn draft(&self, mut node: u32, most: usize, through: usize, out: &mut Vec<u32>) {
        let (begin, mut passed) = (out.len(), 0);
        while out.len() - begin < most {
            let children = self.children(node);
            let next = match children {
                [] => return,
                [only] => *only,
                _ if passed == through => return,
                _ => {
                    passed += 1;
                    // The first of the heaviest: the order of the tokens decides a tie, the same on every machine.
                    let heavier = |best, c: &(u32, u32)| if self.weight(*c) > self.weight(best) { *c } else { best };
                    let heaviest = children.iter().fold(children[0], heavier);
                    let all: f32 = children.iter().map(|c| self.weight(*c)).sum();
                    if self.weight(heaviest) < GOOD_SHARE * all {
                        return;
                    }
                    heaviest
                }
            };
            if next.0 == self.end {
                return;
            }
            out.push(next.0);
            node = next.1;
        }
    }

    fn weight(&self, child: (u32, u32)) -> f32 {
        self.nodes[child.1 as usize].weight
    }
}

fn limit(what: &'static str, asked: usize, cap: usize) -> Result<()> {
    if asked > cap { Err(StudentError::Limit { what, asked: asked as u64, cap: cap as u64 }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(trie: &Trie, node: u32, most: usize, through: usize) -> Vec<u32> {
        let mut out = Vec::new();
        trie.draft(node, most, through, &mut out);
        out
    }

    #[test]
    fn drafts_run_to_the_branch_point_or_past_it_on_the_frequent_side() {
        let trie = Trie::new(0, [vec![5, 6, 7], vec![5, 6, 8, 9], vec![5, 6, 8, 4], vec![5, 6]]).unwrap();
        assert_eq!(trie.answers(), 4);
        assert_eq!(draft(&trie, 0, 9, 0), [5, 6]);
        assert_eq!(draft(&trie, 0, 1, 0), [5]);
        // 7 weighs 1, 8 weighs 1/2 + 1/3, the end 1/4.
        assert_eq!(draft(&trie, 0, 9, 1), [5, 6, 7]);
        let eight = trie.child(trie.child(trie.child(0, 5).unwrap(), 6).unwrap(), 8).unwrap();
        assert_eq!(draft(&trie, eight, 9, 1), [9]);
        let leaf = trie.child(trie.child(eight, 4).unwrap(), 0).unwrap();
        assert_eq!((trie.answer(leaf), trie.answer(eight)), (Some(2), None));
    }

    #[test]
    fn repeated_and_empty_answers_are_one_or_none() {
        let trie = Trie::new(0, [vec![1], vec![], vec![1], vec![2, 0]]).unwrap();
        assert_eq!(trie.answers(), 1);
        let leaf = trie.child(trie.child(0, 1).unwrap(), 0).unwrap();
        assert_eq!(trie.answer(leaf), Some(0));
    }

    #[test]
    fn capacities_hold() {
        assert!(Trie::new(0, [vec![1; 600]]).is_err());
        let many = (0..2_000_u32).map(|i| (0..300).map(|k| 1 + i * 300 + k).collect::<Vec<_>>());
        assert!(Trie::new(0, many).is_err());
    }
}
