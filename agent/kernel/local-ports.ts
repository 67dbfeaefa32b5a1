/**
 * Owns which ports outgoing connections may have (ip-sysctl, `ip_local_port_range` and
 * `ip_local_reserved_ports`).
 */

import { readFileSync } from 'node:fs'
import type { PortRange } from '#shared/model/port-range.ts'

const directory = '/proc/sys/net/ipv4'

/**
 * The longest stretch of the kernel's range in which no port is reserved; null where the range cannot be
 * read. `read` answers what a file has, and nothing where it cannot be read.
 */
export function freePortRange(read: (file: string) => string = readOf): PortRange | null {
  const [first, last] = numbersIn(read(`${directory}/ip_local_port_range`))
  if (first === undefined || last === undefined) return null
  let longest: PortRange | null = null
  let length = 0
  let begin = first
  // Ascending, as the kernel prints them: `8080,9148-9160`.
  const reserved = read(`${directory}/ip_local_reserved_ports`).split(',').map(numbersIn)
  for (const [from = last + 1, to = from] of [...reserved, []]) {
    const end = Math.min(from - 1, last)
    if (end - begin + 1 > length) {
      length = end - begin + 1
      longest = { first: begin, last: end }
    }
    begin = Math.max(begin, to + 1)
  }
  return longest
}

function numbersIn(text: string): number[] {
  return (text.match(/[0-9]+/g) ?? []).map(Number)
}

function readOf(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}
