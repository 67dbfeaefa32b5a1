/** Enforces that the examples in the pages work: JSON is read as the programs read it, command lines exist. */

import t from 'tap'
import { readAgentConfig } from '#agent/config-reader.ts'
import { makeProgram } from '#cli/commands/program.ts'
import { readControllerConfig } from '#controller/config.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { readPolicy } from '#shared/schema/policy.ts'
import { projectFiles, readProjectFile } from '#test/support/sources.ts'

interface Example {
  readonly page: string
  readonly text: string
}

const pages = projectFiles()
  .filter((path) => path.endsWith('.md') && path !== 'CHANGELOG.md')
  .map((page) => ({ page, text: readProjectFile(page) }))

/** What every page has of a shape, as its first group has it. */
function examples(...shapes: readonly RegExp[]): readonly Example[] {
  return pages.flatMap(({ page, text }) =>
    shapes.flatMap((shape) =>
      Array.from(text.matchAll(shape), (match) => ({ page, text: match[1] ?? '' })),
    ),
  )
}

const machine = { hostname: 'h1', address: '10.0.0.2', cores: 4 }
/** What reads a file, by a key that no other kind of file has; what has none of them is a manifest. */
const readers: readonly (readonly [string, (bytes: Buffer) => unknown])[] = [
  ['controller', (bytes) => faults(readAgentConfig(configOf(bytes), machine))],
  ['advertise', (bytes) => faults(readControllerConfig(configOf(bytes), machine))],
  ['services', (bytes) => faults(readPolicy('policy.json', bytes))],
]
const readAsManifest = (bytes: Buffer): unknown => faults(readManifest('/etc/mesh.d/a.json', bytes))

function configOf(bytes: Buffer) {
  return { file: { path: 'config.json', bytes }, environment: {} }
}

function faults(reading: { readonly ok: boolean }): unknown {
  return reading.ok ? [] : reading
}

t.test('examples in JSON are manifests, policies or configurations without a fault', async (t) => {
  const whole = examples(
    /^```json\n([\s\S]*?)\n```$/gm,
    /(?<=\n\n) {4}(\{ .*\})$/gm,
    /echo '(\{.*?\})' >/g,
    /`(\{ ?"(?:controller|advertise)".*?\})`/gs,
  )
  t.ok(whole.length >= 15, `${whole.length} examples`)
  for (const { page, text } of whole) {
    const keys = Object.keys(JSON.parse(text) as object)
    const [, read = readAsManifest] = readers.find(([key]) => keys.includes(key)) ?? []
    t.same(read(Buffer.from(text)), [], `${page}: ${text}`)
  }
})

interface Verb {
  readonly commands: readonly Verb[]
  readonly options: readonly { readonly long?: string | undefined; readonly required: boolean }[]
  name(): string
}

const program: Verb = makeProgram({
  streams: { out() {}, err() {} },
  version: '',
  documents: '',
  user: 'root',
  isRoot: true,
  killGroup() {},
  beforeSignal: () => () => {},
  exit() {},
})

/** What a command line says that meshctl would not understand; empty where it would. */
function misunderstood(line: string): string {
  const words = line.split(/[\s[\]]+/).filter((word) => word !== '')
  let verbs: readonly Verb[] = [program]
  const known = new Map<string, boolean>([
    ['--help', false],
    ['--version', false],
  ])
  const learn = (): void => {
    for (const { options } of verbs)
      for (const { long = '', required } of options) known.set(long, required)
  }
  learn()
  let isValue = false
  for (const word of words) {
    if (word === '--') return ''
    if (isValue) {
      isValue = false
      continue
    }
    if (word.startsWith('--')) {
      const takesValue = known.get(word)
      if (takesValue === undefined) return word
      isValue = takesValue
      continue
    }
    const below = verbs.flatMap(({ commands }) => commands)
    if (below.length === 0) continue
    const named = word.split(/\\?\|/)
    const next = below.filter((verb) => named.includes(verb.name()))
    if (next.length < named.length) return word
    verbs = next
    learn()
  }
  return ''
}

t.test('command lines of meshctl in the pages are ones it has', async (t) => {
  const lines = examples(
    /`(?:cli\/)?meshctl ([^`]+)`/g,
    /^\| meshctl ([^|]*(?:\\\|[^|]*)*?) +\|/gm,
    /^(?:\$ )?(?:cli\/)?meshctl ([^#|>\n]+)/gm,
  ).flatMap(({ page, text }) =>
    text.split(/,? meshctl /).map((each) => ({ page, text: each.replaceAll(/\s+/g, ' ') })),
  )
  t.ok(lines.length > 150, `${lines.length} command lines`)
  t.same(
    lines.flatMap(({ page, text }) => {
      const word = misunderstood(text)
      return word === '' ? [] : `${page}: meshctl ${text}: ${word}`
    }),
    [],
  )
})
