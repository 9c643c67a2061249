// Package archtest holds the direction of imports. Its tests read the real
// dependencies from the go command, so that an arrow that is only drawn in a
// document cannot be crossed by accident. Linters say the same sooner, but only
// to those who run them, and only of direct imports.
package archtest
