//! The Huffman code of strings (RFC 7541 §5.2).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, so the lengths tell all
//! of them. From these a machine is made, at compile time, that reads four bits at once.

/// How many bits the code of each byte has (RFC 7541, Appendix B), and that of the end of a string, which is never
/// written.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
const SYMBOLS: usize = 257;
const END: usize = 256;
const LENGTH_MAX: u8 = 30;

/// A tree with a leaf for each symbol has one inner node less.
const NODES: usize = SYMBOLS - 1;

/// Where four bits lead.
#[derive(Clone, Copy)]
struct Step {
    /// The node that is reached.
    node: u8,
    /// The byte whose code has ended on the way, if [`EMITS`].
    byte: u8,
    flags: u8,
}

const EMITS: u8 = 1;
/// The string may end here: all that came since the last symbol is padding.
const ENDS: u8 = 2;
/// No string goes on like this.
const FAILS: u8 = 4;

/// The machine, by node and the next four bits.
static STEPS: [[Step; 16]; NODES] = steps(&tree());

/// An inner node: what either bit leads to, a node, or [`LEAF`] and a symbol.
type Node = [u16; 2];
const LEAF: u16 = 0x8000;

/// The tree of the codes.
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "it is evaluated at compile time"
)]
const fn tree() -> [Node; NODES] {
    let mut nodes = [[0; 2]; NODES];
    let (mut made, mut code, mut length) = (1, 0_u32, 1);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] == length {
                let (mut node, mut left) = (0, length - 1);
                while left > 0 {
                    let bit = (code >> left & 1) as usize;
                    if nodes[node][bit] == 0 {
                        nodes[node][bit] = made;
                        made += 1;
                    }
                    node = nodes[node][bit] as usize;
                    left -= 1;
                }
                nodes[node][(code & 1) as usize] = LEAF | symbol as u16;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    nodes
}

#[expect(clippy::indexing_slicing, reason = "it is evaluated at compile time")]
const fn steps(tree: &[Node; NODES]) -> [[Step; 16]; NODES] {
    let mut steps = [[Step {
        node: 0,
        byte: 0,
        flags: 0,
    }; 16]; NODES];
    let mut from = 0;
    while from < NODES {
        let mut bits = 0;
        while bits < 16 {
            steps[from][bits] = step(tree, from, bits);
            bits += 1;
        }
        from += 1;
    }
    steps
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "it is evaluated at compile time, and there are 256 nodes and bytes"
)]
const fn step(tree: &[Node; NODES], from: usize, bits: usize) -> Step {
    let (mut node, mut byte, mut flags, mut left) = (from, 0, 0, 4);
    while left > 0 {
        left -= 1;
        let next = tree[node][bits >> left & 1];
        node = next as usize;
        if next & LEAF != 0 {
            let symbol = (next & !LEAF) as usize;
            if symbol == END {
                return Step {
                    node: 0,
                    byte: 0,
                    flags: FAILS,
                };
            }
            (byte, flags, node) = (symbol as u8, EMITS, 0);
        }
    }
    if is_padding(tree, node) {
        flags |= ENDS;
    }
    Step {
        node: node as u8,
        byte,
        flags,
    }
}

/// Tells whether less than a byte of ones leads from the root to `node` (RFC 7541 §5.2).
#[expect(clippy::indexing_slicing, reason = "it is evaluated at compile time")]
const fn is_padding(tree: &[Node; NODES], node: usize) -> bool {
    let (mut at, mut ones) = (0, 0);
    while ones < 8 {
        if at == node {
            return true;
        }
        at = tree[at][1] as usize;
        ones += 1;
    }
    false
}

/// Appends the string that `coded` stands for; `None` if it stands for none.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let (mut node, mut flags) = (0, ENDS);
    // The shortest code has five bits.
    text.reserve(coded.len() * 8 / 5);
    for &byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let step = STEPS.get(usize::from(node))?.get(usize::from(bits))?;
            (node, flags) = (step.node, step.flags);
            if flags & EMITS != 0 {
                text.push(step.byte);
            }
            if flags & FAILS != 0 {
                return None;
            }
        }
    }
    (flags & ENDS != 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The codes, as strings of bits.
    fn codes() -> Vec<String> {
        let mut codes = vec![String::new(); SYMBOLS];
        let mut paths = vec![(0_usize, String::new())];
        let tree = tree();
        while let Some((node, path)) = paths.pop() {
            for (next, bit) in tree[node].iter().zip(['0', '1']) {
                let path = format!("{path}{bit}");
                match next & LEAF {
                    0 => paths.push((usize::from(*next), path)),
                    _ => codes[usize::from(next & !LEAF)] = path,
                }
            }
        }
        codes
    }

    fn bytes(mut bits: String, padding: char) -> Vec<u8> {
        while !bits.len().is_multiple_of(8) {
            bits.push(padding);
        }
        let byte = |bits: &[u8]| u8::from_str_radix(str::from_utf8(bits).unwrap(), 2).unwrap();
        bits.as_bytes().chunks(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn the_codes_are_those_of_the_standard() {
        let codes = codes();
        for (symbol, code) in [
            (0, "1111111111000"),
            (usize::from(b'0'), "00000"),
            (usize::from(b'z'), "1111011"),
            (usize::from(b'~'), "1111111111101"),
            (249, "1111111111111111111111111110"),
            (255, "11111111111111111111101110"),
            (END, "111111111111111111111111111111"),
        ] {
            assert_eq!(codes[symbol], code, "{symbol}");
        }
    }

    /// RFC 7541, Appendix C.4.
    #[test]
    fn examples_of_the_standard() {
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&coded).unwrap(), b"www.example.com");
        assert_eq!(
            decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(),
            b"no-cache"
        );
    }

    #[test]
    fn padding_is_of_ones_and_shorter_than_a_byte() {
        let a = codes()[usize::from(b'a')].clone();
        assert_eq!(decoded(&bytes(a.clone(), '1')).unwrap(), b"a");
        assert_eq!(decoded(&bytes(a.clone(), '0')), None);
        assert_eq!(decoded(&bytes(a.clone() + "11111111", '1')), None);
        assert_eq!(
            decoded(&bytes(a + &"1".repeat(30), '1')),
            None,
            "the end is not written"
        );
        assert_eq!(decoded(&[]).unwrap(), b"");
        assert_eq!(decoded(&[255]), None);
    }

    proptest! {
        #[test]
        fn whatever_was_written_is_read(text: Vec<u8>) {
            let codes = codes();
            let bits: String = text.iter().map(|byte| &*codes[usize::from(*byte)]).collect();
            prop_assert_eq!(decoded(&bytes(bits, '1')), Some(text));
        }
    }
}
