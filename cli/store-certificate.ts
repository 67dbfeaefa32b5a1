/**
 * Owns `meshctl store certificate`: keys and certificates for one node of an etcd cluster, in a new
 * directory. The keys are made here and go nowhere.
 */

import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'

/** Which node, and where its files go. */
export interface StoreCertificateSettings {
  readonly node: string
  /** DNS names and IP addresses at which it is reached. */
  readonly addresses: readonly string[]
  readonly directory: string
}

/** Writes the files and prints the options with which etcd uses them. */
export async function storeCertificate(
  parts: { readonly controller: ControllerClient; readonly printer: Printer },
  settings: StoreCertificateSettings,
): Promise<number> {
  const { node, addresses } = settings
  const directory = resolve(settings.directory)
  const [server, peer] = [await generateKey(), await generateKey()]
  const certified = await parts.controller.call('StoreOperations', 'IssueStoreNode', {
    node,
    addresses,
    serverCsr: await makeCsr(server),
    peerCsr: await makeCsr(peer),
  })
  await write(directory, {
    'ca.pem': certified.trustBundlePem,
    'server.pem': certified.serverChainPem,
    'server.key': keyToPem(server),
    'peer.pem': certified.peerChainPem,
    'peer.key': keyToPem(peer),
  })
  const options = optionsFor(directory, certified.peerName)
  const { notAfterMs } = certified
  parts.printer.result({ node, directory, notAfterMs, options }, () => options.join(' \\\n  '))
  const until = new Date(notAfterMs).toISOString()
  parts.printer.note(`certificates until ${until}; etcd reads new ones by itself, run this again`)
  return exitCodes.ok
}

function optionsFor(directory: string, peerName: string): readonly string[] {
  const file = (name: string): string => join(directory, name)
  return [
    '--client-cert-auth',
    `--trusted-ca-file=${file('ca.pem')}`,
    `--cert-file=${file('server.pem')}`,
    `--key-file=${file('server.key')}`,
    '--peer-client-cert-auth',
    `--peer-trusted-ca-file=${file('ca.pem')}`,
    `--peer-cert-file=${file('peer.pem')}`,
    `--peer-key-file=${file('peer.key')}`,
    // Without it every certificate of the mesh could join the cluster.
    `--peer-cert-allowed-hostname=${peerName}`,
  ]
}

async function write(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    for (const [name, text] of Object.entries(files)) {
      await writeFileAtomic(join(directory, name), text)
    }
  } catch (error) {
    throw new MeshError(`cannot write into ${directory}: ${messageOf(error)}`, {
      code: 'directory-unwritable',
      hint: 'name a directory you may write; etcd has to be able to read it',
      cause: error,
    })
  }
}
