package ids

// Hexadecimal, eight digits at a time in one register: every request reads and
// writes some 150 of them, and a table for each would be 150 look-ups.

// eachByte times a byte has it in every byte of a word.
const eachByte = 0x0101010101010101

// word is the first eight bytes, the first one highest. The compiler makes one
// load of it.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[7]) | uint64(s[6])<<8 | uint64(s[5])<<16 | uint64(s[4])<<24 |
		uint64(s[3])<<32 | uint64(s[2])<<40 | uint64(s[1])<<48 | uint64(s[0])<<56
}

// hex8 is the eight digits of v, the first in the highest byte.
func hex8(v uint32) uint64 {
	x := uint64(v)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f // a digit a byte
	letters := (x + eachByte*6) >> 4 & eachByte
	return x + eachByte*'0' + letters*('a'-10-'0')
}

// hexOf reads eight digits, the first in the highest byte, of which letters are
// lower case. A byte of faults has its highest bit set where there is no digit;
// the other bits say nothing.
func hexOf(w uint64) (v uint32, faults uint64) {
	// Bytes below 128 do not carry into the one above, and the others are faults
	// of their own.
	digit := (w + eachByte*(0x80-'0')) &^ (w + eachByte*(0x80-'9'-1))
	letter := (w + eachByte*(0x80-'a')) &^ (w + eachByte*(0x80-'f'-1))
	faults = w | ^(digit | letter)
	x := w&(eachByte*0x0f) + (letter>>7&eachByte)*9
	x = (x | x>>4) & 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16), faults
}
