/**
 * Owns what the mesh's DNS zone answers (RFC 1034 §4.3.2): `<service>.mesh`, `<port>.<service>.mesh`,
 * `_<service>._tcp.mesh` and the addresses backwards. Pure: where the names come from and how they travel is not its matter.
 */

import type { TargetName } from '#shared/model/target.ts'
import type { Answer } from './wire.ts'

/** A target as DNS knows it. */
export interface NamedService {
  readonly service: TargetName
  readonly ipv4: string | null
  /** Null where IPv6 is off, so that nobody waits for it. */
  readonly ipv6: string | null
  /** The ports it answers on. */
  readonly ports: readonly number[]
}

/** The names of the mesh as they stand now. */
export interface MeshNames {
  /** False until the first view of the mesh: then a missing name proves nothing. */
  readonly known: boolean
  find(service: string): NamedService | undefined
  /** The service of a virtual address; null: an address of the mesh that is free. */
  at(address: string): TargetName | null | undefined
}

/** What the zone says to a question. */
export type ZoneAnswer =
  | {
      readonly kind: 'records'
      readonly answers: readonly Answer[]
      readonly extra: readonly Answer[]
    }
  /** The name exists, the type does not. */
  | { readonly kind: 'no-data'; readonly authority: Answer }
  | { readonly kind: 'no-name'; readonly authority: Answer }
  | { readonly kind: 'not-known-yet' }
  /** Not this zone's. */
  | { readonly kind: 'foreign' }

/** How long answers may be kept, seconds: addresses stay, but capture may be lifted. */
const ttl = 30
/** How long it may be kept that a name is missing: a new service is to be found soon. */
const missingTtl = 2
const suffix = '.mesh'
const apex = 'mesh'
const nameServer = 'ns.mesh'
const servicePrefix = /^_([a-z0-9-]{1,63})\._tcp\.mesh$/
const ipv4Reverse = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/
const ipv6Reverse = /^((?:[0-9a-f]\.){32})ip6\.arpa$/

/** See the header. */
export class Zone {
  readonly #names: MeshNames
  constructor(parts: { readonly names: MeshNames }) {
    this.#names = parts.names
  }

  /** @param name in lower case, without the last dot @param asked as it was asked */
  answer(name: string, asked: string, type: string): ZoneAnswer {
    if (name === apex) return this.#atApex(asked, type)
    if (name.endsWith(suffix)) return this.#below(name, asked, type)
    const address = addressOf(name)
    return address === null ? { kind: 'foreign' } : this.#backwards(address, asked, type)
  }

  #below(name: string, asked: string, type: string): ZoneAnswer {
    if (name === nameServer || name === '_tcp.mesh') return this.#none('no-data')
    const viaSrv = servicePrefix.exec(name)?.[1]
    const label = viaSrv ?? name.slice(0, -suffix.length)
    const found = this.#names.find(label)
    if (found === undefined) {
      return this.#names.known ? this.#none('no-name') : { kind: 'not-known-yet' }
    }
    const addresses = addressRecords(found, viaSrv === undefined ? asked : nameOf(found))
    if (wants(type, 'SRV')) {
      const answers = found.ports.map((port): Answer => {
        const data = { priority: 0, weight: 0, port, target: nameOf(found) }
        return { name: asked, type: 'SRV', class: 'IN', ttl, data }
      })
      if (viaSrv !== undefined || type === 'SRV') return this.#some(answers, addresses)
    }
    if (viaSrv !== undefined) return this.#none('no-data')
    return this.#some(addresses.filter((record) => wants(type, record.type)))
  }

  #atApex(asked: string, type: string): ZoneAnswer {
    const answers: Answer[] = []
    if (wants(type, 'SOA')) answers.push({ ...this.#soa(), name: asked })
    if (wants(type, 'NS'))
      answers.push({ name: asked, type: 'NS', class: 'IN', ttl, data: nameServer })
    return this.#some(answers)
  }

  #backwards(address: string, asked: string, type: string): ZoneAnswer {
    const service = this.#names.at(address)
    if (service === undefined) return { kind: 'foreign' }
    if (service === null) return this.#none('no-name')
    if (!wants(type, 'PTR')) return this.#none('no-data')
    const data = `${service}${suffix}`
    return this.#some([{ name: asked, type: 'PTR', class: 'IN', ttl, data }])
  }

  #some(answers: readonly Answer[], extra: readonly Answer[] = []): ZoneAnswer {
    return answers.length === 0 ? this.#none('no-data') : { kind: 'records', answers, extra }
  }

  #none(kind: 'no-data' | 'no-name'): ZoneAnswer {
    return { kind, authority: this.#soa() }
  }

  /** Goes with what is missing, so that it is kept for a moment only (RFC 2308 §3). */
  #soa(): Answer {
    return {
      name: apex,
      type: 'SOA',
      class: 'IN',
      ttl: missingTtl,
      data: {
        mname: nameServer,
        rname: 'hostmaster.mesh',
        // Nobody copies this zone: it is on every host already.
        serial: 1,
        refresh: 60,
        retry: 10,
        expire: 3600,
        minimum: missingTtl,
      },
    }
  }
}

function wants(type: string, offered: string): boolean {
  return type === offered || type === 'ANY'
}

function nameOf({ service }: NamedService): string {
  return `${service}${suffix}`
}

function addressRecords({ ipv4, ipv6 }: NamedService, name: string): readonly Answer[] {
  const records: Answer[] = []
  if (ipv4 !== null) records.push({ name, type: 'A', class: 'IN', ttl, data: ipv4 })
  if (ipv6 !== null) records.push({ name, type: 'AAAA', class: 'IN', ttl, data: ipv6 })
  return records
}

/** The address that a reverse name spells (RFC 1035 §3.5, RFC 3596 §2.5), as `node:net` writes it. */
function addressOf(name: string): string | null {
  const bytes = ipv4Reverse.exec(name)
  if (bytes !== null) return bytes.slice(1).reverse().map(Number).join('.')
  const nibbles = ipv6Reverse.exec(name)?.[1]
  if (nibbles === undefined) return null
  const digits = nibbles.replaceAll('.', '').split('').reverse().join('')
  return new URL(`http://[${digits.match(/.{4}/g)?.join(':')}]`).hostname.slice(1, -1)
}
