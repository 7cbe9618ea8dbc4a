//! An emulator of AMX, for tests on processors that lack it. Such a processor raises SIGILL; the
//! signal handler here executes the instruction as Intel's manual specifies it (volume 2,
//! "LDTILECFG" to "TILESTORED"). So the tests run the same machine code, with its operands. A
//! signal takes microseconds: this says nothing about speed.

use std::cell::UnsafeCell;
use std::sync::OnceLock;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// A tile register at its largest: 16 rows of 64 bytes.
const ROWS: usize = 16;
const LINE: usize = 64;

/// The tile registers of a thread, and their configuration.
struct Tiles {
    configured: bool,
    rows: [usize; 8],
    line: [usize; 8],
    words: [[[u32; LINE / 4]; ROWS]; 8],
}

thread_local! {
    static TILES: UnsafeCell<Tiles> =
        const { UnsafeCell::new(Tiles { configured: false, rows: [0; 8], line: [0; 8], words: [[[0; 16]; 16]; 8] }) };
}

/// Install the signal handler: AMX instructions then work in all threads of this process.
pub fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: an action of zeros is a valid one; the handler has the type that SA_SIGINFO requires.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
        }
    })
}

extern "C" fn on_illegal(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system hands the interrupted thread's registers, which are this thread's to change.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    // SAFETY: the handler's thread is the interrupted one, which is not inside of `with` here.
    let length = TILES.with(|tiles| unsafe { execute(&mut *tiles.get(), registers) });
    match length {
        Some(length) => registers[libc::REG_RIP as usize] += length as i64,
        // Not an AMX instruction: it is executed again and ends the process, as it would have.
        // SAFETY: restores what the signal does by default.
        None => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}

/// Execute the instruction at `rip`. Returns its length, or `None` when it does not belong to AMX.
///
/// # Safety
/// `rip` points to an instruction whose operands are valid.
unsafe fn execute(tiles: &mut Tiles, registers: &[i64; 23]) -> Option<usize> {
    let code = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: a VEX prefix is three bytes, the opcode and ModRM follow; the manual's longest here is 10 bytes, of which
    // more than these are read only where they belong to the instruction.
    let byte = |at: usize| unsafe { *code.add(at) };
    // VEX of three bytes, map 0F38, 128 bits, W0.
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let (prefix, opcode, modrm) = (byte(2) & 3, byte(3), byte(4));
    let reg = usize::from(modrm >> 3 & 7);
    let in_registers = modrm >> 6 == 3;
    match (opcode, prefix, in_registers) {
        // tilerelease
        (0x49, 0, true) if modrm == 0xc0 => {
            tiles.configured = false;
            Some(5)
        }
        // ldtilecfg
        (0x49, 0, false) if reg == 0 => {
            let operand = Operand::decode(code, registers);
            // SAFETY: 64 bytes, as the instruction reads.
            let config = unsafe { std::slice::from_raw_parts(operand.base as *const u8, 64) };
            assert!(config[0] == 1 && config[1..16].iter().all(|&byte| byte == 0), "palette 1, from row 0");
            assert!(config[32..48].iter().chain(&config[56..]).all(|&byte| byte == 0), "there are eight tiles");
            for tile in 0..8 {
                tiles.line[tile] = usize::from(u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]));
                tiles.rows[tile] = usize::from(config[48 + tile]);
                assert!(tiles.rows[tile] <= ROWS && tiles.line[tile] <= LINE && tiles.line[tile].is_multiple_of(4));
            }
            tiles.words = [[[0; 16]; 16]; 8];
            tiles.configured = true;
            Some(operand.end)
        }
        // tileloadd (prefix F2) and tilestored (F3): rows `base + row * index`
        (0x4b, 2 | 3, false) if tiles.configured => {
            let operand = Operand::decode(code, registers);
            for row in 0..tiles.rows[reg] {
                let line = (operand.base + row as i64 * operand.index) as *mut u32;
                let words = &mut tiles.words[reg][row];
                // SAFETY: as many bytes as the instruction reads or writes.
                unsafe {
                    if prefix == 3 {
                        words.fill(0);
                        std::ptr::copy_nonoverlapping(line, words.as_mut_ptr(), tiles.line[reg] / 4);
                    } else {
                        std::ptr::copy_nonoverlapping(words.as_ptr(), line, tiles.line[reg] / 4);
                    }
                }
            }
            Some(operand.end)
        }
        // tdpbf16ps
        (0x5c, 2, true) if tiles.configured => {
            let (first, second) = (usize::from(modrm & 7), usize::from(!byte(2) >> 3 & 15));
            dot_products(tiles, reg, first, second);
            Some(5)
        }
        _ => None,
    }
}

/// `to += first second`, over pairs of bf16. Even and odd elements are summed separately.
fn dot_products(tiles: &mut Tiles, to: usize, first: usize, second: usize) {
    let (rows, pairs, columns) = (tiles.rows[first], tiles.line[first] / 4, tiles.line[second] / 4);
    assert!(tiles.rows[to] == rows && tiles.rows[second] == pairs && tiles.line[to] / 4 == columns, "shapes of tiles");
    assert!(to != first && to != second && first != second, "the instruction refuses one tile twice");
    let halves = |word: u32| (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000));
    for row in 0..rows {
        for column in 0..columns {
            let (mut even, mut odd) = (0.0f32, 0.0f32);
            for pair in 0..pairs {
                let (a, b) = halves(tiles.words[first][row][pair]);
                let (c, d) = halves(tiles.words[second][pair][column]);
                (even, odd) = (a.mul_add(c, even), b.mul_add(d, odd));
            }
            let sum = &mut tiles.words[to][row][column];
            *sum = (f32::from_bits(*sum) + (even + odd)).to_bits();
        }
    }
}

/// An operand in memory: `base + index`, the scaled index apart, because it is the stride of a
/// tile.
struct Operand {
    base: i64,
    index: i64,
    /// Where the instruction ends.
    end: usize,
}

impl Operand {
    /// Volume 2, section 2.1.5: ModRM, SIB and displacement after VEX and the opcode.
    fn decode(code: *const u8, registers: &[i64; 23]) -> Self {
        // SAFETY: the bytes belong to the instruction.
        let byte = |at: usize| unsafe { *code.add(at) };
        // In the order of the encoding; rsp as an index is none.
        let order = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];
        // VEX has them inverted.
        let (extend_index, extend_base) = (8 * usize::from(!byte(1) >> 6 & 1), 8 * usize::from(!byte(1) >> 5 & 1));
        let (mode, rm) = (byte(4) >> 6, usize::from(byte(4) & 7));
        let (mut base, mut index, mut end) = (rm, None, 5);
        if rm == 4 {
            let sib = byte(5);
            base = usize::from(sib & 7);
            let number = usize::from(sib >> 3 & 7) + extend_index;
            index = (number != 4).then(|| registers[order[number]] << (sib >> 6));
            end = 6;
        }
        assert!(mode != 0 || base != 5, "an address without a base register");
        let displacement = match mode {
            1 => i64::from(byte(end) as i8),
            2 => i64::from(i32::from_le_bytes([byte(end), byte(end + 1), byte(end + 2), byte(end + 3)])),
            _ => 0,
        };
        end += [0, 1, 4][usize::from(mode)];
        Self { base: registers[order[base + extend_base]] + displacement, index: index.unwrap_or(0), end }
    }
}
