/**
 * Owns the elements of our sets: what a state asks for, what differs from what stands in the kernel,
 * and the nft commands that make up for it. Pure.
 */

import { tableName, type CaptureState, type Endpoint } from './capture-state.ts'
import { isCounted, isMap, isOfGroups, setTypes, type SetName } from './ruleset.ts'

/** Per set, its keys with their values; the value of a plain set's key is empty. */
export type Elements = Readonly<Record<SetName, ReadonlyMap<string, string>>>

const names = Object.keys(setTypes) as readonly SetName[]

/** Elements of a table that has none. */
export function noElements(): Record<SetName, Map<string, string>> {
  const pairs = names.map((name) => [name, new Map<string, string>()] as const)
  return Object.fromEntries(pairs) as Record<SetName, Map<string, string>>
}

/** The elements a state asks for. */
export function elementsOf(state: CaptureState): Elements {
  const sets = noElements()
  const keyed = (
    name: 'destinations' | 'denied' | 'dialled' | 'answered' | 'answerers' | 'registered',
    at: Endpoint,
  ) => sets[`${name}${at.address.includes(':') ? '6' : '4'}`]
  const key = ({ address, port }: Endpoint): string => `${address} . ${port}`
  // Without a port to lead to, no destination may lead anywhere.
  if (state.unknownPort !== null) {
    sets.unknown_callers.set('tcp', String(state.unknownPort))
    for (const one of state.destinations) {
      keyed('destinations', one).set(key(one), one.virtual)
      if (one.denied) keyed('denied', one).set(key(one), '')
    }
    for (const caller of state.callers) {
      if (caller.kind === 'user') sets.callers.set(String(caller.user), String(caller.port))
      else sets.unit_callers.set(caller.group.path, `${caller.port} ${caller.group.id}`)
    }
  }
  for (const one of state.dialled) keyed('dialled', one).set(key(one), '')
  for (const one of state.answers) {
    keyed('answered', one).set(key(one), '')
    for (const user of one.users) keyed('answerers', one).set(`${key(one)} . ${user}`, '')
  }
  for (const { port, users, mode } of state.locks) {
    if (mode === 'strict') sets.locked.set(String(port), '')
    else sets.plaintext.set(String(port), counterOf(port))
    for (const user of users) sets.lock_users.set(`${port} . ${user}`, '')
  }
  for (const caller of state.confined) {
    const counter = egressCounterOf(caller.service)
    if (caller.kind === 'user') sets.confined_users.set(String(caller.user), counter)
    else sets.confined_units.set(caller.group.path, `${counter} ${caller.group.id}`)
  }
  for (const one of state.standIns) {
    const six = one.address.includes(':')
    const [first, other] = one.to
    // Two targets may claim a number: as with destinations, the first one has it.
    if (sets[six ? 'plain6' : 'plain4'].has(key(one))) continue
    if (first !== undefined) sets[six ? 'plain6' : 'plain4'].set(key(one), key(first))
    if (other !== undefined) sets[six ? 'plain6_other' : 'plain4_other'].set(key(one), key(other))
  }
  // Nobody asks where nobody is confined.
  if (state.confined.length > 0)
    for (const one of state.registered) keyed('registered', one).set(key(one), '')
  for (const user of state.exemptUsers) sets.exempt_users.set(String(user), '')
  return sets
}

/** The counter of plaintext connections to a port. */
export function counterOf(port: number | string): string {
  return `plaintext_${port}`
}

/** The counter of connections that a service was refused. */
export function egressCounterOf(service: string): string {
  return `egress_${service}`
}

/**
 * The nft commands that lead from one to the other; empty where nothing differs. Run as one
 * transaction they leave no moment between.
 */
export function changesBetween(before: Elements, after: Elements): string {
  const gone: string[] = []
  const come: string[] = []
  for (const name of names) {
    const [old, fresh] = [before[name], after[name]]
    const [removed, added] = [otherThan(fresh, old), otherThan(old, fresh)]
    if (removed.length === 0 && added.length === 0) continue
    // A path of a group leads to another one than before, or to none: only a flush takes that away.
    const isWhole = isOfGroups(name)
    if (isWhole) gone.push(`flush map inet ${tableName} ${name}`)
    else if (removed.length > 0) {
      const keys = removed.map(([key]) => key)
      gone.push(command('delete', name, keys))
    }
    if (isCounted(name)) {
      const [had, has] = [countersIn(old), countersIn(fresh)]
      for (const one of had) if (!has.has(one)) gone.push(`delete counter inet ${tableName} ${one}`)
      for (const one of has) if (!had.has(one)) come.push(`add counter inet ${tableName} ${one}`)
    }
    const texts = [...(isWhole ? fresh : added)].map(([key, value]) => textOf(name, key, value))
    if (texts.length > 0) come.push(command('add', name, texts))
  }
  return [...gone, ...come].map((line) => `${line}\n`).join('')
}

/** The elements that those commands delete, each as `<set> <key>`. */
export function deletedBetween(before: Elements, after: Elements): readonly string[] {
  return names.flatMap((name) =>
    (isOfGroups(name) ? [...before[name]] : otherThan(after[name], before[name])).map(
      ([key]) => `${name} ${key}`,
    ),
  )
}

/** What is in `these` and not, or with another value, in those. There may be tens of thousands. */
function otherThan(
  those: ReadonlyMap<string, string>,
  these: ReadonlyMap<string, string>,
): readonly (readonly [string, string])[] {
  const found: [string, string][] = []
  for (const pair of these) if (those.get(pair[0]) !== pair[1]) found.push(pair)
  return found
}

function countersIn(map: ReadonlyMap<string, string>): ReadonlySet<string> {
  return new Set([...map.values()].map(withoutGroup))
}

/** An element as nft takes it. */
function textOf(name: SetName, key: string, value: string): string {
  if (!isMap(name)) return key
  const known = listed(name, value)
  return `${isOfGroups(name) ? `"${key}"` : key} : ${isCounted(name) ? `"${known}"` : known}`
}

/**
 * What is left of a table's elements when nobody takes captured connections: only the destinations
 * that may not be reached without the mesh. Guards and locks stay as they are.
 */
export function lifted(standing: Elements): Elements {
  const left: Record<SetName, ReadonlyMap<string, string>> = { ...standing }
  const only = (all: ReadonlyMap<string, string>, some: ReadonlyMap<string, string>) =>
    new Map([...all].filter(([key]) => some.has(key)))
  left.destinations4 = only(standing.destinations4, standing.denied4)
  left.destinations6 = only(standing.destinations6, standing.denied6)
  const isEmpty = left.destinations4.size + left.destinations6.size === 0
  if (isEmpty) {
    left.callers = new Map()
    left.unit_callers = new Map()
    left.unknown_callers = new Map()
  }
  return left
}

/** The same without what leads virtual IPs on while nobody takes captured connections. */
export function withoutStandIns(standing: Elements): Elements {
  const none = new Map<string, string>()
  return { ...standing, plain4: none, plain6: none, plain4_other: none, plain6_other: none }
}

/** Whether two differ at all, as far as a listing tells: it has no numbers of groups. */
export function isSame(a: Elements, b: Elements): boolean {
  return names.every(
    (name) =>
      a[name].size === b[name].size &&
      [...a[name]].every(([key, value]) => {
        const other = b[name].get(key)
        return other !== undefined && listed(name, other) === listed(name, value)
      }),
  )
}

/** A value as a listing has it: a group's number is not in it. */
function listed(name: SetName, value: string): string {
  return isOfGroups(name) ? withoutGroup(value) : value
}

function withoutGroup(value: string): string {
  return value.split(' ', 1)[0] ?? ''
}

function command(verb: 'add' | 'delete', name: SetName, texts: readonly string[]): string {
  return `${verb} element inet ${tableName} ${name} { ${texts.join(', ')} }`
}
