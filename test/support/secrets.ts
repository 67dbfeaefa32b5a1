/**
 * Owns the search for private keys in whatever a run leaves behind: it learns keys from where they
 * belong, and finds them anywhere else, in each form a careless program could print.
 */

import { createPrivateKey } from 'node:crypto'
import { lstatSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** What any key of ours looks like, known or not. */
const shapes: readonly (readonly [string, RegExp])[] = [
  ['a PEM key', /BEGIN (?:EC |ENCRYPTED |RSA )?PRIVATE KEY/],
  // PKCS#8 of P-256 up to the secret number.
  ['a DER key in base64', /MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/],
  ['a DER key in hexadecimal', /308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b/i],
  ['a JWK key', /"d":\s?"[\w-]{43}"/],
]

/** The same in plain bytes, each a character. */
const derBegin = Buffer.from('308187020100301306072a8648ce3d0201', 'hex').toString('latin1')

/** A file, as far as secrets are concerned. */
export interface FoundFile {
  readonly path: string
  readonly mode: number
  readonly found: readonly string[]
}

/** See the header. */
export class Secrets {
  readonly #learnt = new Set<string>()
  readonly #known = new Map<string, string>()

  /** How many keys it has learnt. */
  get size(): number {
    return this.#learnt.size
  }

  /** Learns every key in a text. */
  learn(text: string): void {
    const plain = text.replaceAll('\\n', '\n')
    for (const [pem] of plain.matchAll(
      /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/g,
    )) {
      const { d = '' } = createPrivateKey(pem).export({ format: 'jwk' })
      this.#learnt.add(d)
      const secret = Buffer.from(d, 'base64url')
      for (const form of ['hex', 'base64', 'base64url'] as const) {
        // Without the end of it, where padding differs.
        this.#known.set(secret.toString(form).slice(0, 40), `a known key in ${form}`)
      }
    }
  }

  /** What a text gives away. */
  findIn(text: string): readonly string[] {
    const der = text.includes(derBegin) ? ['a DER key'] : []
    const seen = shapes.flatMap(([name, shape]) => (shape.test(text) ? [name] : []))
    const known = [...this.#known].flatMap(([secret, name]) =>
      text.includes(secret) ? [name] : [],
    )
    return [...new Set([...der, ...seen, ...known])]
  }

  /** Every file below a directory, with what it gives away. */
  scan(directory: string): readonly FoundFile[] {
    return readdirSync(directory).flatMap((name): readonly FoundFile[] => {
      const path = join(directory, name)
      // What is written at the moment may be gone by now.
      const stat = lstatSync(path, { throwIfNoEntry: false })
      if (stat?.isDirectory() === true) return this.scan(path)
      if (stat?.isFile() !== true) return []
      return [{ path, mode: stat.mode & 0o777, found: this.findIn(read(path)) }]
    })
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
