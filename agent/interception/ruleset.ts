/**
 * Owns the text of our table's rules, as one nft transaction that may be run at any time: it makes
 * what is missing and replaces the rules whole, and no element and no live connection is touched.
 * Pure. Who is captured, answers or is locked out stands in sets, so rules change with the shape only.
 */

import { deepestUnit } from './units.ts'
import { tableName, virtualRange4, type LeftAlone, type TableShape } from './capture-state.ts'

/** The sets and maps of the table with their types. Maps have a colon. */
export const setTypes = {
  destinations4: 'ipv4_addr . inet_service : ipv4_addr',
  destinations6: 'ipv6_addr . inet_service : ipv6_addr',
  callers: 'uid : inet_service',
  unit_callers: 'cgroupsv2 : inet_service',
  unknown_callers: 'inet_proto : inet_service',
  exempt_users: 'uid',
  dialled4: 'ipv4_addr . inet_service',
  dialled6: 'ipv6_addr . inet_service',
  answered4: 'ipv4_addr . inet_service',
  answered6: 'ipv6_addr . inet_service',
  answerers4: 'ipv4_addr . inet_service . uid',
  answerers6: 'ipv6_addr . inet_service . uid',
  locked: 'inet_service',
  lock_users: 'inet_service . uid',
  plaintext: 'inet_service : counter',
  confined_users: 'uid : counter',
  confined_units: 'cgroupsv2 : counter',
  registered4: 'ipv4_addr . inet_service',
  registered6: 'ipv6_addr . inet_service',
  // Where virtual IPs lead while nobody takes captured connections: an instance, and perhaps another.
  plain4: 'ipv4_addr . inet_service : ipv4_addr . inet_service',
  plain6: 'ipv6_addr . inet_service : ipv6_addr . inet_service',
  plain4_other: 'ipv4_addr . inet_service : ipv4_addr . inet_service',
  plain6_other: 'ipv6_addr . inet_service : ipv6_addr . inet_service',
  // No rule reads these: they tell the guard which destinations stay when the agent is gone.
  denied4: 'ipv4_addr . inet_service',
  denied6: 'ipv6_addr . inet_service',
} as const

/** A set or map of the table. */
export type SetName = keyof typeof setTypes

/** Whether a set maps its keys to values. */
export function isMap(name: SetName): boolean {
  return setTypes[name].includes(' : ')
}

/** Whether the values of a map are counters. */
export function isCounted(name: SetName): boolean {
  return setTypes[name].endsWith(' : counter')
}

/** Whether the keys of a map are control groups. */
export function isOfGroups(name: SetName): boolean {
  return setTypes[name].startsWith('cgroupsv2')
}

const synAck = 'tcp flags & (syn | ack) == (syn | ack)'
const reset = 'reject with tcp reset'

/** The rules by chain; base chains name their hook. */
export function chainsOf(shape: TableShape): Readonly<Record<string, readonly string[]>> {
  const { agentUser, virtualRange6, callerPorts, tellsUnits, confines } = shape
  const { masquerades = true } = shape
  const levels = tellsUnits ? Array.from({ length: deepestUnit }, (_, n) => n + 1) : []
  const ports = `${callerPorts.first}-${callerPorts.last}`
  const capture = (family: 'ip' | 'ip6', destinations: string): readonly string[] => {
    const to = `meta l4proto tcp dnat ${family} to ${family} daddr . tcp dport map @${destinations}`
    // A unit goes before its user, which may run several.
    return [
      ...levels.map((level) => `${to} : socket cgroupv2 level ${level} map @unit_callers`),
      `${to} : meta skuid map @callers`,
      `${to} : meta l4proto map @unknown_callers`,
    ]
  }
  /** What was captured has left the chain before. */
  const plain = (family: 'ip' | 'ip6', map: string): readonly string[] => {
    const to = `dnat ${family} to ${family} daddr . tcp dport map @${map}`
    return [`meta l4proto tcp numgen random mod 2 0 ${to}_other`, `meta l4proto tcp ${to}`]
  }
  return {
    // Asked once a connection. The agent's own way to a local service is never led back to itself,
    // nor is a service's way to itself.
    capture: [
      'meta skuid @exempt_users accept',
      `meta skuid ${agentUser} ip daddr . tcp dport @dialled4 accept`,
      `meta skuid ${agentUser} ip6 daddr . tcp dport @dialled6 accept`,
      'ip daddr . tcp dport . meta skuid @answerers4 accept',
      'ip6 daddr . tcp dport . meta skuid @answerers6 accept',
      ...capture('ip', 'destinations4'),
      ...capture('ip6', 'destinations6'),
      ...plain('ip', 'plain4'),
      ...plain('ip6', 'plain6'),
    ],
    guard_in: [
      `ip daddr ${virtualRange4} jump virtual_in`,
      ...(virtualRange6 === null ? [] : [`ip6 daddr ${virtualRange6} jump virtual_in`]),
      `tcp dport ${ports} ct status dnat accept`,
      `tcp dport ${ports} ${reset}`,
      'iif != "lo" ct state new meta l4proto tcp jump outsiders',
    ],
    // Nobody but us leads connections to virtual IPs and caller ports: whoever dials them is forging.
    virtual_in: [
      'ct status dnat accept',
      // While virtual IPs lead away, whoever dials one comes from it, and must hear that he is refused.
      `iif "lo" ip saddr ${virtualRange4} tcp flags & rst == rst accept`,
      `iif "lo" ip saddr ${virtualRange4} icmp type destination-unreachable accept`,
      `meta l4proto tcp ${reset}`,
      'reject',
    ],
    outsiders: [
      `tcp dport @locked fib daddr type local ${reset}`,
      'fib daddr type local counter name tcp dport map @plaintext',
    ],
    guard_out: [
      `tcp sport ${ports} jump caller_answers`,
      'ip saddr . tcp sport @answered4 jump service_answers',
      'ip6 saddr . tcp sport @answered6 jump service_answers',
      'ct state new meta l4proto tcp fib daddr type local jump insiders',
      ...(confines === undefined
        ? []
        : ['ct state new meta l4proto { tcp, udp } fib daddr type unicast jump egress']),
    ],
    // A packet without an owner is the kernel's own (a reset, the rest of a closed socket), but for
    // a SYN-ACK: under a flood the kernel answers for a listener without naming it.
    caller_answers: [
      `meta skuid ${agentUser} accept`,
      `${synAck} drop`,
      `meta skuid != ${agentUser} drop`,
    ],
    service_answers: [
      'ip saddr . tcp sport . meta skuid @answerers4 accept',
      'ip6 saddr . tcp sport . meta skuid @answerers6 accept',
      `${synAck} drop`,
      'meta skuid >= 0 drop',
    ],
    insiders: [
      'tcp dport . meta skuid @lock_users accept',
      `tcp dport @locked ${reset}`,
      'counter name tcp dport map @plaintext',
    ],
    egress: confines === undefined ? [] : egressRules(confines, levels, virtualRange6),
    refused: [`meta l4proto tcp ${reset}`, 'reject'],
    // What stands in for a virtual IP may be on any network: each answers only an address of its own.
    leaving: masquerades ? leavingRules(virtualRange6) : [],
  }
}

function leavingRules(virtualRange6: string | null): readonly string[] {
  const to6 = virtualRange6 === null ? [] : [`ip6 daddr ${virtualRange6}`]
  return [`ip daddr ${virtualRange4}`, ...to6].map(
    (to) => `oif != "lo" ct status dnat ct original ${to} masquerade`,
  )
}

/** A caller that is confined is refused, and counted, unless it goes where it may. */
function egressRules(
  { ports, addresses }: LeftAlone,
  levels: readonly number[],
  virtualRange6: string | null,
): string[] {
  const [v4, v6] = [false, true].map((six) => addresses.filter((one) => one.includes(':') === six))
  const among = (what: string, list: readonly (string | number)[] = []): string[] =>
    list.length === 0 ? [] : [`${what} { ${[...new Set(list)].join(', ')} } accept`]
  return [
    'meta skuid @exempt_users accept',
    // Without names nobody reaches anything.
    ...among('th dport', [53, ...ports]),
    ...among('ip daddr', v4),
    ...among('ip6 daddr', v6),
    // What stands in for a virtual IP is the service that was called.
    `ct original ip daddr ${virtualRange4} accept`,
    ...(virtualRange6 === null ? [] : [`ct original ip6 daddr ${virtualRange6} accept`]),
    'ip daddr . tcp dport @registered4 accept',
    'ip6 daddr . tcp dport @registered6 accept',
    ...levels.map(
      (level) => `counter name socket cgroupv2 level ${level} map @confined_units jump refused`,
    ),
    'counter name meta skuid map @confined_users jump refused',
  ]
}

const hooks: Readonly<Record<string, string>> = {
  // Before Docker's and kube-proxy's (-100), or they would take virtual IPs and ClusterIPs first.
  capture: '{ type nat hook output priority -110; policy accept; }',
  guard_in: '{ type filter hook input priority 0; policy accept; }',
  guard_out: '{ type filter hook output priority 0; policy accept; }',
  leaving: '{ type nat hook postrouting priority 90; policy accept; }',
}

/** Rules that a kernel refuses which does not tell connections of units apart; for `nft --check`. */
export const unitProbe = `add table inet ${tableName}_probe
add map inet ${tableName}_probe units { type ${setTypes.unit_callers}; }
add chain inet ${tableName}_probe capture { type nat hook output priority -110; }
add rule inet ${tableName}_probe capture meta l4proto tcp redirect to socket cgroupv2 level 1 map @units
`

/** Rules that a kernel refuses which cannot masquerade; for `nft --check`. */
export const masqueradeProbe = `add table inet ${tableName}_probe
add chain inet ${tableName}_probe leaving ${hooks['leaving']}
add rule inet ${tableName}_probe leaving ${leavingRules(null).join('')}
`

/** The transaction that makes the table and its rules what they are to be. */
export function rulesetText(shape: TableShape): string {
  const chains = Object.entries(chainsOf(shape))
  const table = `inet ${tableName}`
  return [
    `add table ${table} { comment ${JSON.stringify(commentFor(shape.owner))}; }`,
    ...Object.entries(setTypes).map(
      ([name, type]) =>
        `add ${isMap(name as SetName) ? 'map' : 'set'} ${table} ${name} { type ${type}; }`,
    ),
    ...chains.map(([name]) => `add chain ${table} ${name} ${hooks[name] ?? ''}`.trimEnd()),
    ...chains.map(([name]) => `flush chain ${table} ${name}`),
    ...chains.flatMap(([name, rules]) => rules.map((rule) => `add rule ${table} ${name} ${rule}`)),
    '',
  ].join('\n')
}

/** What the table's comment says: whose it is. nft takes 128 characters. */
export function commentFor(owner: string): string {
  return `mesh-agent ${owner}`.slice(-128)
}
