/** Owns the question whether a certificate belongs to somebody who is banned. Pure. */

import type { TrustDomain } from '#shared/model/names.ts'
import type { Ban, Bans } from '#shared/model/trust.ts'
import type { Svid } from './svid.ts'

/** What is asked of a certificate. */
export type BannableSvid = Pick<Svid, 'serial' | 'dnsNames'>

/** See the header. */
export class BanList {
  readonly bans: Bans
  readonly #suffix: string

  constructor(bans: Bans, trustDomain: TrustDomain) {
    this.bans = bans
    this.#suffix = `.host.${trustDomain}`
  }

  /**
   * Why a certificate is worth nothing, or an empty string. Every certificate issued to a host names
   * it in its DNS SAN, those of services included.
   */
  refusal(svid: BannableSvid): string {
    const { hosts, serials } = this.bans
    const serial = own(serials, svid.serial)
    if (serial !== null) return `certificate ${svid.serial} ${words(serial)}`
    for (const name of svid.dnsNames) {
      if (!name.endsWith(this.#suffix)) continue
      const host = name.slice(0, -this.#suffix.length)
      const ban = own(hosts, host)
      if (ban !== null) return `host "${host}" ${words(ban)}`
    }
    return ''
  }
}

/** Why and since when, for people. */
function words({ reason, at }: Ban): string {
  return `is banned since ${at}${reason === '' ? '' : `: ${reason}`}`
}

function own(bans: Readonly<Record<string, Ban>>, name: string): Ban | null {
  return Object.hasOwn(bans, name) ? (bans[name] ?? null) : null
}
