/** Owns what Debian is told of the package (deb-control(5)). Pure. */

/** Architectures by Node's name. */
export type Architecture = 'x64' | 'arm64'

/** The same by Debian's. */
export const debianNames = { x64: 'amd64', arm64: 'arm64' } as const satisfies Record<
  Architecture,
  string
>

/** The control file. */
export function debianControl(facts: {
  readonly version: string
  readonly architecture: Architecture
  readonly kibibytes: number
}): string {
  return `Package: hostmesh
Version: ${facts.version}
Architecture: ${debianNames[facts.architecture]}
Maintainer: The Hostmesh developers <maintainers@hostmesh.invalid>
Installed-Size: ${facts.kibibytes}
Depends: libc6 (>= 2.28), libstdc++6 (>= 9), libatomic1, libsystemd0, systemd (>= 252), nftables (>= 1.0.6), iproute2
Section: net
Priority: optional
Description: service mesh with one agent per host
 A JSON file dropped in /etc/mesh.d puts a service in the mesh: calls to it are
 balanced over its healthy instances, encrypted and authenticated with mutual
 TLS between hosts, counted and logged, without sidecars and without changes to
 the service. This package holds agent, controller and meshctl, and starts none
 of them: run "meshctl init" on the first host, "meshctl join" on the others.
`
}
