/**
 * Owns how systemd-resolved is told of the mesh's DNS: a drop-in by which it asks there for `mesh` and
 * for nothing else (resolved.conf(5)). Whoever may write it does; the text is the same for all.
 */

/** Where the drop-in lies. */
export const resolvedDropInPath = '/etc/systemd/resolved.conf.d/hostmesh.conf'

/** Where systemd-resolved listens itself: `/etc/resolv.conf` names it where programs ask it. */
export const resolvedStub = '127.0.0.53'

/** The text, for a server that listens there. */
export function resolvedDropIn({ address, port }: { address: string; port: number }): string {
  return `# Written by hostmesh: names of the mesh are asked of its agent, all others as before.
[Resolve]
DNS=${address.includes(':') ? `[${address}]` : address}:${port}
Domains=~mesh
`
}
