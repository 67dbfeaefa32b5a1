/**
 * Owns the law of imports as data: which room may lean on which. CONTRIBUTING.md tells it in words;
 * test/law enforces it. A room is a folder such as `agent/tunnel`, or a file such as `agent/app.ts`.
 */

/** Rooms without the world in them: shared/model and nothing else, not even Node's modules. */
export const pureRooms = ['shared/route', 'shared/policy', 'agent/balance'] as const

/** Files every room of the agent may name, for types. */
export const agentSeams = [
  'agent/platform.ts',
  'agent/workers/messages.ts',
  'agent/relay/upstream.ts',
] as const

/** Files every impure room of shared/ may name: the layout of the store's keys, which is pure. */
export const sharedSeams = ['shared/store/keys.ts'] as const

/** What a room of shared/ may import beside itself and shared/model. */
export const sharedRooms: Readonly<Record<string, readonly string[]>> = {
  'shared/lifecycle': [],
  'shared/metrics': ['shared/lifecycle'],
  'shared/logging': ['shared/lifecycle'],
  'shared/http': ['shared/lifecycle', 'shared/logging'],
  'shared/pki': ['shared/lifecycle'],
  'shared/schema': ['shared/lifecycle', 'shared/policy', 'shared/route'],
  'shared/rpc': ['shared/lifecycle', 'shared/logging', 'shared/pki', 'shared/schema'],
  'shared/store': [
    'shared/lifecycle',
    'shared/logging',
    'shared/pki',
    'shared/rpc',
    'shared/schema',
  ],
}

const dataPath = [
  'agent/balance',
  'agent/http1',
  'agent/http2',
  'agent/identity',
  'agent/relay',
  'agent/telemetry',
  'agent/tunnel',
] as const

/** What a room of the agent may import of the other rooms; a room that is not named, none. */
export const agentRooms: Readonly<Record<string, readonly string[]>> = {
  'agent/health': ['agent/http2'],
  'agent/tunnel': ['agent/identity', 'agent/http2'],
  'agent/relay': ['agent/http1', 'agent/http2', 'agent/telemetry'],
  'agent/interception': ['agent/kernel'],
  'agent/policies': ['agent/kernel', 'agent/manifests'],
  'agent/outbound': dataPath,
  'agent/inbound': dataPath,
}

/** The names allowed at the top, dot-files apart. */
export const topLevel = [
  'ARCHITECTURE.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'LICENSE',
  'README.md',
  'agent',
  'ansible',
  'cli',
  'controller',
  'docs',
  'kubernetes',
  'package-lock.json',
  'package.json',
  'shared',
  'systemd',
  'test',
  'tsconfig.json',
] as const

/** A room's name: the folder of a file, or the file itself where it stands in no room. */
export function roomOf(path: string): string {
  const parts = path.split('/')
  return parts.length > 2 ? parts.slice(0, 2).join('/') : path
}

/** Why one file may not import another, or an empty string. */
export function breach(source: string, target: string): string {
  const [from, to] = [roomOf(source), roomOf(target)]
  const [fromTop = '', toTop = ''] = [from.split('/')[0], to.split('/')[0]]
  const pure = has(pureRooms, from)
  if (from === to) return ''
  if (fromTop === 'shared') {
    if (toTop !== 'shared') return 'shared imports no program'
    if (from === 'shared/model') return 'shared/model imports nothing'
    if (to === 'shared/model') return ''
    if (pure) return 'a pure room imports shared/model only'
    if (has(sharedSeams, target)) return ''
    return has(sharedRooms[from] ?? [], to) ? '' : `${from} may not lean on ${to}`
  }
  if (toTop === 'shared')
    return pure && to !== 'shared/model' ? 'a pure room imports shared/model only' : ''
  if (fromTop !== toTop) return `${fromTop} and ${toTop} never import each other`
  // A file that stands in no room puts rooms together, and may import any of its program.
  if (fromTop !== 'agent' || from === source || has(agentSeams, target)) return ''
  return has(agentRooms[from] ?? [], to) ? '' : `${from} may not lean on ${to}`
}

function has(list: readonly string[], item: string): boolean {
  return list.includes(item)
}
