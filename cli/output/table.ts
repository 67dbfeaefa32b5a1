/** Owns how tables and times read on a terminal. Pure. */

/** Rows under a head, in columns two spaces apart; without rows, the words for nothing. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  nothing: string,
): string {
  if (rows.length === 0) return `${nothing}\n`
  const all = [head, ...rows].map((row) => row.map(clean))
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)))
  return all
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('')
}

/** Names and values, one pair a line. */
export function pairs(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${clean(value)}\n`).join('')
}

/** Milliseconds in the two largest units that say something, as in `3 h 5 min`. */
export function duration(ms: number): string {
  const units = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1000],
  ] as const
  const first = units.findIndex(([, size]) => ms >= size)
  if (first < 0) return '0 s'
  let rest = ms
  const words = units.slice(first, first + 2).map(([unit, size]) => {
    const count = Math.floor(rest / size)
    rest -= count * size
    return count === 0 ? '' : `${count} ${unit}`
  })
  return words.filter((word) => word !== '').join(' ')
}

/** A size in the unit that says most, as in `3.2 MiB`. */
export function bytes(count: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB'] as const
  const at = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10))
  return `${at === 0 ? count : (count / 1024 ** at).toFixed(1)} ${units[at]}`
}

/** One line, made harmless: words come from files and far hosts, and none may steer a terminal. */
export function clean(text: string): string {
  // oxlint-disable-next-line eslint/no-control-regex
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, '?')
}
