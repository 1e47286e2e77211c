# SPDX-License-Identifier: BSD-2-Clause
# Prints the matrix of all kernels from their test output.
#
#   awk -f table.awk -v columns="5.10.223 6.1.176" column=1 LOG1 column=2 LOG2
#
# A log has lines `matrix: MODE HOOK TRANSPORT ok|FAILED|n/a: reason`; the rest of it is ignored.

# With --test-threads=1 the first line of a test's own output stands behind the test's name.
{ sub(/\r$/, ""); sub(/^test [^ ]+ +\.\.\. matrix: /, "matrix: ") }

/^matrix: / && NF >= 5 {
    row = $2 SUBSEP $3 SUBSEP $4
    if (!(row in seen)) { seen[row] = 1; order[++rows] = row }
    result = $5
    if (result ~ /^n\/a(:|$)/) {
        reason = $0
        sub(/^matrix: +[^ ]+ +[^ ]+ +[^ ]+ +n\/a:? */, "", reason)
        if (reason == "") reason = "no reason given"
        if (!(reason in number)) { number[reason] = ++notes; note[notes] = reason }
        result = "n/a [" number[reason] "]"
    } else if (result != "ok") {
        # An unknown word must not look like a success.
        result = "FAILED"
    }
    # One failure is enough, whatever else is said about the row.
    if (cell[row, column] != "FAILED") cell[row, column] = result
}

function put(x, y, text) {
    grid[x, y] = text
    if (length(text) > width[x]) width[x] = length(text)
}

END {
    if (!rows) exit
    kernels = split(columns, kernel, " ")
    put(1, 0, "MODE"); put(2, 0, "HOOK"); put(3, 0, "TRANSPORT")
    for (k = 1; k <= kernels; k++) put(3 + k, 0, kernel[k])
    for (r = 1; r <= rows; r++) {
        split(order[r], key, SUBSEP)
        for (x = 1; x <= 3; x++) put(x, r, key[x])
        for (k = 1; k <= kernels; k++) put(3 + k, r, (order[r], k) in cell ? cell[order[r], k] : "-")
    }
    for (r = 0; r <= rows; r++) {
        line = ""
        for (x = 1; x <= 3 + kernels; x++) line = line sprintf("%-" width[x] + 2 "s", grid[x, r])
        sub(/ +$/, "", line)
        print line
    }
    if (notes) print ""
    for (n = 1; n <= notes; n++) print "[" n "] " note[n]
    print ""
}
