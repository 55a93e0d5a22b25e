//go:build !purego

#include "textflag.h"

// AES-256-GCM (NIST SP 800-38D) on vectors of four blocks, with the VAES,
// VPCLMULQDQ and AVX-512 instructions. gcm_amd64.go says who calls this and
// why. Nothing branches on secrets or loads from addresses that depend on
// them: branches and addresses follow from lengths alone.
//
// Hashed blocks are byte-reversed, and powers of the hash key are kept times x,
// so that a product of 128 by 128 bits needs no shift (Gueron and Kounavis,
// "Intel Carry-Less Multiplication Instruction and its Usage for Computing the
// GCM Mode", algorithm 5; the arrangement of reduction is that of E. Biggers'
// aes-gcm-avx512 in BoringSSL).
//
// Registers, in all functions but gcmInit:
//
//	AX key   DI dst   SI src   CX bytes left   BX power of the tail's next block
//	X11 encrypted first counter block, which masks the tag
//	Z12 hash so far, in the lowest lane   Z13–Z27 round keys
//	Z28 counters of the next four blocks, byte-reversed   Z29 four in each lane
//	Z30 the reducing polynomial   Z31 byte reversal
//
// After return registers still hold round keys and powers, as they do after the
// standard library's functions; the stack holds nothing of either.
//
// Layout of wideKey: round keys at 0, powers 17 to 1 of the hash key at 240,
// zeros at 512 that let a load of four powers begin at power 1.
#define power16 256
#define power1 496

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

DATA polynomial<>+0(SB)/8, $1
DATA polynomial<>+8(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $16

DATA timesX<>+0(SB)/8, $1
DATA timesX<>+8(SB)/8, $0xc200000000000001
GLOBL timesX<>(SB), RODATA|NOPTR, $16

DATA firstFour<>+0(SB)/8, $1
DATA firstFour<>+8(SB)/8, $0
DATA firstFour<>+16(SB)/8, $2
DATA firstFour<>+24(SB)/8, $0
DATA firstFour<>+32(SB)/8, $3
DATA firstFour<>+40(SB)/8, $0
DATA firstFour<>+48(SB)/8, $4
DATA firstFour<>+56(SB)/8, $0
GLOBL firstFour<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

// REDUCE leaves in hi, for each lane, the residue of the product whose parts
// are lo, mi and hi. It spoils lo, mi and t.
#define REDUCE(poly, lo, mi, hi, t) \
	VPCLMULQDQ $0x01, lo, poly, t; \
	VPSHUFD    $0x4e, lo, lo; \
	VPTERNLOGD $0x96, t, lo, mi; \
	VPCLMULQDQ $0x01, mi, poly, t; \
	VPSHUFD    $0x4e, mi, mi; \
	VPTERNLOGD $0x96, t, mi, hi

// MULTIPLY sets hi to a times power, lane by lane. It spoils lo, mi and t.
#define MULTIPLY(poly, a, power, lo, mi, hi, t) \
	VPCLMULQDQ $0x00, power, a, lo; \
	VPCLMULQDQ $0x01, power, a, mi; \
	VPCLMULQDQ $0x10, power, a, t; \
	VPCLMULQDQ $0x11, power, a, hi; \
	VPXORQ     t, mi, mi; \
	REDUCE(poly, lo, mi, hi, t)

// FIRST begins the sums Z8, Z9, Z10 with four blocks in x, times four powers.
#define FIRST(x, power) \
	VPCLMULQDQ $0x00, power, x, Z8; \
	VPCLMULQDQ $0x01, power, x, Z9; \
	VPCLMULQDQ $0x10, power, x, Z4; \
	VPCLMULQDQ $0x11, power, x, Z10; \
	VPXORQ     Z4, Z9, Z9

// MORE adds four blocks in x, times four powers, to the sums Z8, Z9, Z10.
#define MORE(x, power) \
	VPCLMULQDQ $0x00, power, x, Z4; \
	VPCLMULQDQ $0x01, power, x, Z5; \
	VPCLMULQDQ $0x10, power, x, Z6; \
	VPCLMULQDQ $0x11, power, x, Z7; \
	VPXORQ     Z4, Z8, Z8; \
	VPTERNLOGD $0x96, Z5, Z6, Z9; \
	VPXORQ     Z7, Z10, Z10

// FOLD reduces the sums Z8, Z9, Z10 and adds their lanes: the hash so far.
#define FOLD \
	REDUCE(Z30, Z8, Z9, Z10, Z4); \
	VEXTRACTI64X4 $1, Z10, Y4; \
	VPXORQ        Y4, Y10, Y10; \
	VEXTRACTI32X4 $1, Y10, X4; \
	VPXORQ        X4, X10, X12

// HASH16 hashes the 16 blocks of ciphertext in Z0 to Z3, which it spoils.
#define HASH16 \
	VPSHUFB Z31, Z0, Z0; \
	VPSHUFB Z31, Z1, Z1; \
	VPSHUFB Z31, Z2, Z2; \
	VPSHUFB Z31, Z3, Z3; \
	VPXORQ  Z12, Z0, Z0; \
	FIRST(Z0, power16(AX)); \
	MORE(Z1, (power16+64)(AX)); \
	MORE(Z2, (power16+128)(AX)); \
	MORE(Z3, (power16+192)(AX)); \
	FOLD

// COUNT sets x to the next four counter blocks under the first round key.
#define COUNT(x) \
	VPSHUFB Z31, Z28, x; \
	VPADDD  Z29, Z28, Z28; \
	VPXORQ  Z13, x, x

#define ROUND4(key) \
	VAESENC key, Z0, Z0; \
	VAESENC key, Z1, Z1; \
	VAESENC key, Z2, Z2; \
	VAESENC key, Z3, Z3

// STREAM16 sets Z0 to Z3 to the key stream of the next 16 blocks.
#define STREAM16 \
	COUNT(Z0); \
	COUNT(Z1); \
	COUNT(Z2); \
	COUNT(Z3); \
	ROUND4(Z14); \
	ROUND4(Z15); \
	ROUND4(Z16); \
	ROUND4(Z17); \
	ROUND4(Z18); \
	ROUND4(Z19); \
	ROUND4(Z20); \
	ROUND4(Z21); \
	ROUND4(Z22); \
	ROUND4(Z23); \
	ROUND4(Z24); \
	ROUND4(Z25); \
	ROUND4(Z26); \
	VAESENCLAST Z27, Z0, Z0; \
	VAESENCLAST Z27, Z1, Z1; \
	VAESENCLAST Z27, Z2, Z2; \
	VAESENCLAST Z27, Z3, Z3

// ENCRYPT encrypts x, which is under the first round key.
#define ENCRYPT(x) \
	VAESENC     Z14, x, x; \
	VAESENC     Z15, x, x; \
	VAESENC     Z16, x, x; \
	VAESENC     Z17, x, x; \
	VAESENC     Z18, x, x; \
	VAESENC     Z19, x, x; \
	VAESENC     Z20, x, x; \
	VAESENC     Z21, x, x; \
	VAESENC     Z22, x, x; \
	VAESENC     Z23, x, x; \
	VAESENC     Z24, x, x; \
	VAESENC     Z25, x, x; \
	VAESENC     Z26, x, x; \
	VAESENCLAST Z27, x, x

// MASK sets K1 to the first left bytes of a vector: all from 64 on. left is
// below 256, as BZHI reads only its lowest byte.
#define MASK(left) \
	BZHIQ left, R12, R13; \
	KMOVQ R13, K1

// BEGIN loads the arguments and constants, encrypts the first counter block
// and hashes the additional data, padded to whole blocks. It goes on at whole.
#define BEGIN \
	MOVQ w+0(FP), AX; \
	MOVQ dst_base+8(FP), DI; \
	MOVQ src_base+32(FP), SI; \
	MOVQ src_len+40(FP), CX; \
	MOVQ additional_base+56(FP), R8; \
	MOVQ additional_len+64(FP), R9; \
	MOVQ counter+80(FP), R10; \
	VBROADCASTI32X4 0(AX), Z13; \
	VBROADCASTI32X4 16(AX), Z14; \
	VBROADCASTI32X4 32(AX), Z15; \
	VBROADCASTI32X4 48(AX), Z16; \
	VBROADCASTI32X4 64(AX), Z17; \
	VBROADCASTI32X4 80(AX), Z18; \
	VBROADCASTI32X4 96(AX), Z19; \
	VBROADCASTI32X4 112(AX), Z20; \
	VBROADCASTI32X4 128(AX), Z21; \
	VBROADCASTI32X4 144(AX), Z22; \
	VBROADCASTI32X4 160(AX), Z23; \
	VBROADCASTI32X4 176(AX), Z24; \
	VBROADCASTI32X4 192(AX), Z25; \
	VBROADCASTI32X4 208(AX), Z26; \
	VBROADCASTI32X4 224(AX), Z27; \
	VBROADCASTI32X4 reverse<>(SB), Z31; \
	VBROADCASTI32X4 polynomial<>(SB), Z30; \
	VBROADCASTI32X4 four<>(SB), Z29; \
	VBROADCASTI32X4 (R10), Z11; \
	VPSHUFB Z31, Z11, Z28; \
	VPADDD  firstFour<>(SB), Z28, Z28; \
	VPXORQ  Z13, Z11, Z11; \
	ENCRYPT(Z11); \
	VPXORQ  X12, X12, X12; \
	MOVQ    $-1, R12; \
	TESTQ   R9, R9; \
	JZ      whole; \
additional: \
	MOVQ    $16, R13; \
	CMPQ    R9, R13; \
	CMOVQLT R9, R13; \
	MASK(R13); \
	VMOVDQU8.Z (R8), K1, X0; \
	VPSHUFB X31, X0, X0; \
	VPXORQ  X12, X0, X0; \
	MULTIPLY(X30, X0, power1(AX), X8, X9, X12, X4); \
	ADDQ    $16, R8; \
	SUBQ    $16, R9; \
	JGT     additional

// NEXT goes on by n bytes of text.
#define NEXT(n) \
	ADDQ $n, SI; \
	ADDQ $n, DI; \
	SUBQ $n, CX

// TAIL begins the hash of the last 0 to 15 whole blocks, a partial one and the
// lengths: powers n+1 to 1, where n is the number of blocks left.
#define TAIL \
	LEAQ   15(CX), BX; \
	SHRQ   $4, BX; \
	SHLQ   $4, BX; \
	NEGQ   BX; \
	LEAQ   power1(AX)(BX*1), BX; \
	VPXORQ Z8, Z8, Z8; \
	VPXORQ Z9, Z9, Z9; \
	VPXORQ Z10, Z10, Z10

// CRYPT takes the next bytes of the tail, at most 64, as Z1, and makes Z0 of
// them, which it stores.
#define CRYPT \
	MASK(CX); \
	COUNT(Z0); \
	ENCRYPT(Z0); \
	VMOVDQU8.Z (SI), K1, Z1; \
	VPXORQ     Z1, Z0, Z0; \
	VMOVDQU8   Z0, K1, (DI)

// HASH4 adds the tail's next four blocks of ciphertext, in x, to the sums.
#define HASH4(x) \
	VPSHUFB Z31, x, Z0; \
	VPXORQ  Z12, Z0, Z0; \
	MORE(Z0, (BX)); \
	VPXORQ  X12, X12, X12; \
	ADDQ    $64, BX

// END hashes the lengths and stores the tag.
#define END \
	MOVQ    src_len+40(FP), R13; \
	SHLQ    $3, R13; \
	MOVQ    additional_len+64(FP), R9; \
	SHLQ    $3, R9; \
	VMOVQ   R13, X0; \
	VPINSRQ $1, R9, X0, X0; \
	VPXORQ  Z12, Z0, Z0; \
	MORE(Z0, power1(AX)); \
	FOLD; \
	VPSHUFB X31, X12, X12; \
	VPXORQ  X11, X12, X12; \
	MOVQ    tag+88(FP), R11; \
	VMOVDQU64 X12, (R11); \
	VZEROUPPER

// func gcmSeal(w *wideKey, dst, src, additional []byte, counter, tag *[16]byte)
TEXT ·gcmSeal(SB), NOSPLIT, $0-96
	BEGIN

whole:
	CMPQ CX, $256
	JLT  tail
	STREAM16
	VPXORQ    0(SI), Z0, Z0
	VPXORQ    64(SI), Z1, Z1
	VPXORQ    128(SI), Z2, Z2
	VPXORQ    192(SI), Z3, Z3
	VMOVDQU64 Z0, 0(DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)
	HASH16
	NEXT(256)
	JMP whole

tail:
	TAIL

part:
	TESTQ CX, CX
	JLE   end
	CRYPT
	VMOVDQU8.Z Z0, K1, Z0
	HASH4(Z0)
	NEXT(64)
	JMP part

end:
	END
	RET

// func gcmOpen(w *wideKey, dst, src, additional []byte, counter, tag *[16]byte)
TEXT ·gcmOpen(SB), NOSPLIT, $0-96
	BEGIN

whole:
	CMPQ CX, $256
	JLT  tail
	STREAM16
	VMOVDQU64 0(SI), Z4
	VMOVDQU64 64(SI), Z5
	VMOVDQU64 128(SI), Z6
	VMOVDQU64 192(SI), Z7
	VPXORQ    Z4, Z0, Z0
	VPXORQ    Z5, Z1, Z1
	VPXORQ    Z6, Z2, Z2
	VPXORQ    Z7, Z3, Z3
	VMOVDQU64 Z0, 0(DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)
	VMOVDQA64 Z4, Z0
	VMOVDQA64 Z5, Z1
	VMOVDQA64 Z6, Z2
	VMOVDQA64 Z7, Z3
	HASH16
	NEXT(256)
	JMP whole

tail:
	TAIL

part:
	TESTQ CX, CX
	JLE   end
	CRYPT
	HASH4(Z1)
	NEXT(64)
	JMP part

end:
	END
	RET

// EVEN and ODD are the two steps of the key expansion (FIPS 197, section 5.2):
// X0 and X2 are the two round keys before.
#define MIX(x) \
	VPSLLDQ $4, x, X3; \
	VPXOR   X3, x, x; \
	VPSLLDQ $4, X3, X3; \
	VPXOR   X3, x, x; \
	VPSLLDQ $4, X3, X3; \
	VPXOR   X3, x, x

#define EVEN(rcon, at) \
	VAESKEYGENASSIST $rcon, X2, X1; \
	VPSHUFD $0xff, X1, X1; \
	MIX(X0); \
	VPXOR   X1, X0, X0; \
	VMOVDQU X0, at(AX)

#define ODD(at) \
	VAESKEYGENASSIST $0, X0, X1; \
	VPSHUFD $0xaa, X1, X1; \
	MIX(X2); \
	VPXOR   X1, X2, X2; \
	VMOVDQU X2, at(AX)

// func gcmInit(w *wideKey, key *Key)
TEXT ·gcmInit(SB), NOSPLIT, $0-16
	MOVQ    w+0(FP), AX
	MOVQ    key+8(FP), SI
	VMOVDQU 0(SI), X0
	VMOVDQU 16(SI), X2
	VMOVDQU X0, 0(AX)
	VMOVDQU X2, 16(AX)
	EVEN(0x01, 32)
	ODD(48)
	EVEN(0x02, 64)
	ODD(80)
	EVEN(0x04, 96)
	ODD(112)
	EVEN(0x08, 128)
	ODD(144)
	EVEN(0x10, 160)
	ODD(176)
	EVEN(0x20, 192)
	ODD(208)
	EVEN(0x40, 224)

	// The hash key is the encrypted zero block, kept byte-reversed and times x.
	VMOVDQU     0(AX), X0
	VAESENC     16(AX), X0, X0
	VAESENC     32(AX), X0, X0
	VAESENC     48(AX), X0, X0
	VAESENC     64(AX), X0, X0
	VAESENC     80(AX), X0, X0
	VAESENC     96(AX), X0, X0
	VAESENC     112(AX), X0, X0
	VAESENC     128(AX), X0, X0
	VAESENC     144(AX), X0, X0
	VAESENC     160(AX), X0, X0
	VAESENC     176(AX), X0, X0
	VAESENC     192(AX), X0, X0
	VAESENC     208(AX), X0, X0
	VAESENCLAST 224(AX), X0, X0
	VMOVDQU     reverse<>(SB), X1
	VPSHUFB     X1, X0, X0
	VPSHUFD     $0xd3, X0, X1
	VPSRAD      $31, X1, X1
	VPADDQ      X0, X0, X0
	VPAND       timesX<>(SB), X1, X1
	VPXOR       X1, X0, X0
	VMOVDQU     X0, power1(AX)

	// Its powers 2 to 17 go below it.
	VMOVDQU   polynomial<>(SB), X5
	VMOVDQA64 X0, X6
	LEAQ      (power1-16)(AX), BX
	MOVQ      $16, CX

powers:
	MULTIPLY(X5, X6, X0, X1, X2, X4, X3)
	VMOVDQA64 X4, X6
	VMOVDQU   X6, (BX)
	SUBQ      $16, BX
	DECQ      CX
	JNZ       powers
	VZEROUPPER
	RET
