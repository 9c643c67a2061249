// Package segment writes and reads sealed segments of records.
package segment
