/**
 * Owns etcd's users, roles and permissions as far as the mesh uses them. Every call brings about a
 * state and may be repeated; who gets what is decided elsewhere. Users are known by the common name
 * of their certificate: nobody ever learns a password.
 */

import type { Random } from '#shared/lifecycle/clock.ts'
import type { Etcd3Rpc } from './etcd-rpc.ts'
import { readWireError, storeError } from './failures.ts'
import { endOfPrefix } from './wire-key-value.ts'

/** What a role allows: one key, or everything under a prefix. */
export interface Grant {
  readonly kind: 'read' | 'read-write'
  readonly key: string
  readonly isPrefix: boolean
}

const kinds = { read: 'Read', 'read-write': 'Readwrite' } as const

/** See the header. */
export class EtcdAuth {
  readonly #rpc: Etcd3Rpc
  readonly #random: Random

  constructor(parts: { readonly rpc: Etcd3Rpc; readonly random: Random }) {
    this.#rpc = parts.rpc
    this.#random = parts.random
  }

  /** Makes a user with a role, both made where they are missing. */
  async ensureUser(name: string, role: string): Promise<void> {
    const password = this.#random.bytes(32).toString('base64url')
    await this.#do(`add user ${name}`, 'user name already exists', (auth, options) =>
      auth.userAdd({ name, password }, options),
    )
    await this.#do(`give user ${name} role ${role}`, null, (auth, options) =>
      auth.userGrantRole({ user: name, role }, options),
    )
  }

  async ensureRole(name: string): Promise<void> {
    await this.#do(`add role ${name}`, 'role name already exists', (auth, options) =>
      auth.roleAdd({ name }, options),
    )
  }

  /** Also widens or narrows what the role had for the same key or prefix. */
  async grant(role: string, { kind, key, isPrefix }: Grant): Promise<void> {
    const perm = { permType: kinds[kind], ...rangeOf(key, isPrefix) }
    await this.#do(`let role ${role} ${kind} ${key}`, null, (auth, options) =>
      auth.roleGrantPermission({ name: role, perm }, options),
    )
  }

  async revoke(role: string, { key, isPrefix }: Pick<Grant, 'key' | 'isPrefix'>): Promise<void> {
    await this.#do(`take ${key} from role ${role}`, 'not granted', (auth, options) =>
      auth.roleRevokePermission({ role, ...rangeOf(key, isPrefix) }, options),
    )
  }

  /** The keys and prefixes a role may write; null where there is no such role. */
  async writable(role: string): Promise<readonly string[] | null> {
    const answer = await this.#do(`look at role ${role}`, 'role name not found', (auth, options) =>
      auth.roleGet({ role }, options),
    )
    return (
      answer?.perm.filter(({ permType }) => permType !== 'Read').map(({ key }) => key.toString()) ??
      null
    )
  }

  async removeUser(name: string): Promise<void> {
    await this.#do(`delete user ${name}`, 'user name not found', (auth, options) =>
      auth.userDelete({ name }, options),
    )
  }

  async removeRole(name: string): Promise<void> {
    await this.#do(`delete role ${name}`, 'role name not found', (auth, options) =>
      auth.roleDelete({ role: name }, options),
    )
  }

  /** Whether anybody is held to a role. Older etcds have no call for it; asked in vain, they tell. */
  async isEnabled(): Promise<boolean> {
    const password = this.#random.bytes(32).toString('base64url')
    try {
      await this.#rpc.administer((auth, options) =>
        auth.authenticate({ name: 'nobody', password }, options),
      )
    } catch (error) {
      const { message } = readWireError(error)
      if (message.includes('authentication is not enabled')) return false
      if (!message.includes('authentication failed'))
        throw storeError('ask for access control', error)
    }
    return true
  }

  /** From now on nobody does more than a role allows. */
  async enable(): Promise<void> {
    await this.#do('enable authentication', 'already enabled', (auth, options) =>
      auth.authEnable(options),
    )
  }

  /** Null where the server answers that it is so already. */
  async #do<T>(
    doing: string,
    settled: string | null,
    run: Parameters<Etcd3Rpc['administer']>[0] extends (...args: infer A) => unknown
      ? (...args: A) => Promise<T>
      : never,
  ): Promise<T | null> {
    try {
      return await this.#rpc.administer(run)
    } catch (error) {
      if (settled !== null && readWireError(error).message.includes(settled)) return null
      throw storeError(doing, error)
    }
  }
}

function rangeOf(key: string, isPrefix: boolean): { key: Buffer; range_end: Buffer } {
  return { key: Buffer.from(key), range_end: isPrefix ? endOfPrefix(key) : Buffer.alloc(0) }
}
