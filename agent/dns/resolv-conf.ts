/**
 * Owns what `/etc/resolv.conf` says (resolv.conf(5)): reading its name servers, and the text with the
 * mesh's own first, marked so that it can be taken out again to the byte. Pure.
 */

const begin = '# hostmesh: begin (removed when the agent leaves)\n'
const end = '# hostmesh: end\n'

/** The name servers, in order; those of the mesh's own part left out. */
export function nameServersIn(text: string): readonly string[] {
  const servers: string[] = []
  for (const line of withoutMesh(text).split('\n')) {
    const server = /^nameserver[ \t]+([0-9a-fA-F.:]+)(?:%[^\s]+)?[ \t]*(?:[#;].*)?$/.exec(line)?.[1]
    if (server !== undefined) servers.push(server)
  }
  return servers
}

/** The text with the mesh's name server in front of all others. */
export function withMesh(text: string, server: string): string {
  return `${begin}nameserver ${server}\n${end}${withoutMesh(text)}`
}

/** The text as it was before `withMesh`. */
export function withoutMesh(text: string): string {
  const from = text.indexOf(begin)
  const to = text.indexOf(end, from)
  return from < 0 || to < 0 ? text : text.slice(0, from) + text.slice(to + end.length)
}
