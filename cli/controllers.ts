/** Owns `meshctl controller`: letting another controller in, and which there are. */

import { readFile } from 'node:fs/promises'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { table } from './output/table.ts'

interface Parts {
  readonly controller: ControllerClient
  readonly printer: Printer
}

const request = /-----BEGIN CERTIFICATE REQUEST-----([\s\S]+?)-----END CERTIFICATE REQUEST-----/

/** Prints the certificates for the new controller, so that they can go straight into a file. */
export async function controllerAdmit(
  parts: Parts,
  settings: { readonly name: string; readonly file: string },
): Promise<number> {
  const { name, file } = settings
  const csr = await readRequest(file)
  const admitted = await parts.controller.call('Controllers', 'Admit', { name, csr })
  parts.printer.result(admitted, () => admitted.certificatesPem)
  parts.printer.note(`for controller ${name}: main.ts accept-ca FILE, on its own host`)
  return exitCodes.ok
}

/** Prints every controller there is. */
export async function controllerList(parts: Parts): Promise<number> {
  const list = await parts.controller.call('Controllers', 'ListControllers', {})
  parts.printer.result(list, () =>
    table(
      ['CONTROLLER', 'ADDRESS', ''],
      list.controllers.map(({ name, address }) => [
        name,
        address,
        name === list.leader ? 'leads' : '',
      ]),
      'no controller has its place in the store',
    ),
  )
  return exitCodes.ok
}

async function readRequest(file: string): Promise<Buffer> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw unreadable(file, messageOf(error))
  }
  const [, base64] = request.exec(text) ?? []
  if (base64 === undefined) throw unreadable(file, 'it holds no certificate request')
  return Buffer.from(base64, 'base64')
}

function unreadable(file: string, why: string): MeshError {
  return new MeshError(`cannot read the request ${file}: ${why}`, {
    code: 'request-unreadable',
    hint: 'it is what main.ts request-ca prints on the new controller’s host',
  })
}
