# SPDX-License-Identifier: BSD-2-Clause
# Prints the table of docs/verifier.md from the test output of all kernels.
#
#   awk -f verifier.awk LOG1 LOG2
#
# A log has lines `verifier: KERNEL | MODE | HOOK | OPTIONS | PROGRAM | INSNS / JITED`; the rest of it is ignored.

# As in table.awk, the first line of a test's own output stands behind the test's name.
{ sub(/\r$/, ""); sub(/^test [^ ]+ +\.\.\. verifier: /, "verifier: ") }

/^verifier: / && split($0, part, / \| /) == 6 {
    kernel = part[1]
    sub(/^verifier: /, "", kernel)
    set = part[2] SUBSEP part[3] SUBSEP part[4]
    row = part[2] " | " part[3] " | " part[4] " | " part[5]
    if (!(kernel in known)) { known[kernel] = 1; kernels[++columns] = kernel }
    if (!(set in first)) { first[set] = 1; sets[++count] = set }
    # A program that only a later kernel has comes behind the others of its set.
    if (!(row in seen)) { seen[row] = 1; rows[set] = rows[set] row "\n" }
    cell[row, kernel] = part[6]
}

END {
    if (!columns) exit 1
    head = "| mode | hook | options | program"
    rule = "|---|---|---|---"
    for (k = 1; k <= columns; k++) { head = head " | " kernels[k]; rule = rule "|---" }
    print head " |"
    print rule "|"
    for (s = 1; s <= count; s++) {
        programs = split(rows[sets[s]], list, "\n") - 1
        for (p = 1; p <= programs; p++) {
            line = "| " list[p]
            for (k = 1; k <= columns; k++) line = line " | " ((list[p], kernels[k]) in cell ? cell[list[p], kernels[k]] : "-")
            print line " |"
        }
    }
}
