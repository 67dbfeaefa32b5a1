/**
 * Owns the controller's offline commands: what an operator does on the controller's own host while
 * the controller is stopped. What each does is in its own room.
 */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CaSlot } from './ca/ca-state.ts'
import { acceptCa, importCa, readPemMaterial, requestCa } from './ca/foreign-ca.ts'
import { readPkcs12 } from './ca/pkcs12.ts'
import type { ControllerConfig } from './config.ts'
import { storeFile } from './store/embedded-store.ts'
import { restoreStore } from './store/restore.ts'

/** What commands lean on. */
export interface CommandParts {
  readonly clock: Clock
  readonly random: Random
  /** Tells the operator what was done. */
  readonly say: (line: string) => void
}

/** Commands by name, with what they take. */
export const commands = {
  restore: '<backup>',
  'request-ca': '',
  'accept-ca': '<certificates.pem>',
  'import-ca': '<file.pem|file.p12> [<password file>]',
} as const

/** Whether the words are a command with what it needs. */
export function isCommand([name = '', ...rest]: readonly string[]): boolean {
  switch (name) {
    case 'restore':
    case 'accept-ca':
      return rest.length === 1
    case 'request-ca':
      return rest.length === 0
    case 'import-ca':
      return rest.length === 1 || rest.length === 2
    default:
      return false
  }
}

/** Carries a command out. Throws MeshError. */
export async function runCommand(
  parts: CommandParts,
  config: ControllerConfig,
  [name = '', file = '', passwordFile]: readonly string[],
): Promise<void> {
  const { state: stateDirectory, trustDomain } = config
  const ca = { stateDirectory, trustDomain, file }
  switch (name) {
    case 'restore':
      await restore(parts, file, join(stateDirectory, storeFile))
      return
    case 'request-ca':
      parts.say((await requestCa(ca)).trimEnd())
      return
    case 'accept-ca':
      tell(parts, await acceptCa(parts, ca))
      return
    case 'import-ca': {
      const material =
        passwordFile === undefined
          ? await readPemMaterial(file)
          : await readPkcs12(file, await readPassword(passwordFile))
      tell(parts, await importCa(parts, ca, material))
    }
  }
}

async function restore(parts: CommandParts, backup: string, file: string): Promise<void> {
  const { revision, kept } = await restoreStore(parts, { backup, file })
  parts.say(`${file} is as it was at revision ${revision}`)
  if (kept !== null) parts.say(`what was there before is ${kept}`)
}

function tell({ say }: CommandParts, { root, issuing }: CaSlot): void {
  say(`root: ${root.certificate.subject}, until ${root.certificate.notAfter.toISOString()}`)
  say(
    `issuing: ${issuing.certificate.subject}, until ${issuing.certificate.notAfter.toISOString()}`,
  )
  if (root.key === null)
    say('the root’s key is kept elsewhere: have a new issuing certificate signed in time')
}

/** Without the line end that editors leave. */
async function readPassword(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).replace(/\r?\n$/, '')
  } catch (error) {
    throw new MeshError(`cannot read the password file ${path}: ${messageOf(error)}`, {
      code: 'ca-unusable',
      cause: error,
    })
  }
}
