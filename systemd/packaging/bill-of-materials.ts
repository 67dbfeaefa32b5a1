/** Owns the list of what a package holds, as CycloneDX 1.5, from the lock file alone. Pure. */

import type { Architecture } from './debian-control.ts'

interface LockedPackage {
  readonly name?: string
  readonly version?: string
  readonly integrity?: string
  readonly license?: string
  readonly dev?: boolean
  readonly cpu?: readonly string[]
}

/** The list, as JSON text. */
export function billOfMaterials(
  lock: string,
  facts: { readonly version: string; readonly architecture: Architecture },
): string {
  const { packages } = JSON.parse(lock) as { readonly packages: Record<string, LockedPackage> }
  const components = Object.entries(packages)
    .filter(([path, one]) => path !== '' && one.dev !== true)
    .filter(([, { cpu }]) => cpu === undefined || cpu.includes(facts.architecture))
    .map(([path, { name, version = '', integrity, license }]) => {
      const known = name ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
      return {
        type: 'library',
        name: known,
        version,
        purl: `pkg:npm/${known.replace('@', '%40')}@${version}`,
        ...(license === undefined ? {} : { licenses: [{ license: { name: license } }] }),
        ...(integrity?.startsWith('sha512-')
          ? { hashes: [{ alg: 'SHA-512', content: hexOf(integrity) }] }
          : {}),
      }
    })
  const component = { type: 'application', name: 'hostmesh', version: facts.version }
  const bill = { bomFormat: 'CycloneDX', specVersion: '1.5', version: 1, metadata: { component } }
  return `${JSON.stringify({ ...bill, components }, null, 2)}\n`
}

function hexOf(integrity: string): string {
  return Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex')
}
