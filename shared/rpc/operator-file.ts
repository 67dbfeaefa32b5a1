/**
 * Owns the operator's credential file: what a controller writes for `meshctl` and how it is read.
 * It holds a private key, so nothing of it may be logged.
 */

import { readFile } from 'node:fs/promises'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { splitSpiffeId } from '#shared/model/spiffe-id.ts'
import { ControllerClient } from './controller-client.ts'
import { parseHostPort } from './host-port.ts'

/** The file's content. */
export interface OperatorFile {
  /** The operator's SPIFFE id. */
  readonly id: string
  /** Where the controller is, `host:port`. */
  readonly controller: string
  readonly chainPem: string
  readonly keyPem: string
  readonly bundlePem: string
}

const members = ['id', 'controller', 'chainPem', 'keyPem', 'bundlePem'] as const

const unreadable: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'there is no such file'],
  ['EACCES', 'this user may not read it'],
])

/** Settings of a client made from the file. */
export interface OperatorClientSettings {
  readonly file: string
  /** `host:port`, instead of the file's. */
  readonly controller?: string
  readonly deadlineMs?: number
}

/** A client with the operator's credential. Throws MeshError `operator-file-unusable`. */
export async function openOperatorClient(
  parts: { readonly clock: Clock },
  settings: OperatorClientSettings,
): Promise<ControllerClient> {
  const operator = await readOperatorFile(settings.file)
  const id = splitSpiffeId(operator.id)
  const address = settings.controller ?? operator.controller
  const target = parseHostPort(address)
  if (!id.ok) throw unusable(settings.file, id.problem)
  if (!target.ok) throw unusable(settings.file, `the controller's address ${target.problem}`)
  return new ControllerClient(
    {
      clock: parts.clock,
      credential: operator,
      expected: { kind: 'controller', trustDomain: id.value.trustDomain },
    },
    {
      address,
      ...(settings.deadlineMs === undefined ? {} : { deadlineMs: settings.deadlineMs }),
    },
  )
}

/** Reads the file. Throws MeshError `operator-file-unusable`. */
export async function readOperatorFile(path: string): Promise<OperatorFile> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw unusable(path, unreadable.get(code ?? '') ?? messageOf(error))
  }
  const content = parse(text)
  const record = (content ?? {}) as Readonly<Record<string, unknown>>
  for (const member of members) {
    if (typeof record[member] !== 'string') throw unusable(path, `it lacks "${member}"`)
  }
  return record as unknown as OperatorFile
}

/** Without JSON.parse's message, which quotes what it read: here, a key. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function unusable(path: string, why: string): MeshError {
  return new MeshError(`the operator credential ${path} cannot be used: ${why}`, {
    code: 'operator-file-unusable',
    hint: 'ask as root on the host of the controller, or name a copy of its operator.json with --credential or MESH_OPERATOR',
  })
}
