/**
 * Owns `npm run package`: a tarball and a Debian package that hold everything a host needs, the
 * runtime included, with checksums and a list of what is inside. The same sources give the same bytes.
 */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { billOfMaterials } from './bill-of-materials.ts'
import { debianControl, debianNames, type Architecture } from './debian-control.ts'
import { installTree, treeBytes } from './install-tree.ts'

const root = join(import.meta.dirname, '../..')

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function run(command: string, words: readonly string[], epoch: number): void {
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(epoch), LC_ALL: 'C' }
  execFileSync(command, words, { cwd: root, env, stdio: ['ignore', 'ignore', 'inherit'] })
}

/** When the sources were last changed, seconds: the only time that stands in a package. */
function sourceEpoch(): number {
  const given = process.env['SOURCE_DATE_EPOCH']
  if (given !== undefined) return Number(given)
  const words = ['log', '-1', '--format=%ct']
  return Number(execFileSync('git', words, { cwd: root, encoding: 'utf8' }).trim())
}

/** What becomes of one architecture. */
interface Order {
  readonly architecture: Architecture
  readonly out: string
  readonly epoch: number
  /** Large, and made in a second: for tests. */
  readonly plain: boolean
}

function packageFor({ architecture, out, epoch, plain }: Order): readonly string[] {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly version: string
  }
  const name = `hostmesh_${version}_${debianNames[architecture]}`
  const tree = join(out, name)
  rmSync(tree, { recursive: true, force: true })
  say(`${name}: putting the tree together`)
  installTree({ root, tree, architecture, version })
  const control = debianControl({
    version,
    architecture,
    kibibytes: Math.ceil(treeBytes(tree) / 1024),
  })
  const bill = join(out, `${name}.cdx.json`)
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8')
  writeFileSync(bill, billOfMaterials(lock, { version, architecture }))
  const tarball = join(out, `${name}.tar${plain ? '' : '.xz'}`)
  const deb = join(out, `${name}.deb`)
  say(`${name}: packing`)
  const sameAlways = [
    '--sort=name',
    `--mtime=@${epoch}`,
    '--owner=0',
    '--group=0',
    '--numeric-owner',
  ]
  run(
    'tar',
    ['-C', tree, ...sameAlways, '-I', plain ? 'cat' : 'xz -T2 -6', '-cf', tarball, '.'],
    epoch,
  )
  mkdirSync(join(tree, 'DEBIAN'), { mode: 0o755 })
  writeFileSync(join(tree, 'DEBIAN/control'), control)
  for (const script of ['postinst', 'prerm', 'postrm']) {
    const text = readFileSync(join(root, 'systemd/debian', script))
    writeFileSync(join(tree, 'DEBIAN', script), text, { mode: 0o755 })
  }
  run('find', [tree, '-exec', 'touch', '-h', '-d', `@${epoch}`, '{}', '+'], epoch)
  run(
    'dpkg-deb',
    ['--root-owner-group', ...(plain ? ['-Znone'] : ['-Zxz', '-z6']), '--build', tree, deb],
    epoch,
  )
  rmSync(tree, { recursive: true })
  return [deb, tarball, bill]
}

function checksums(files: readonly string[]): string {
  return files
    .map((file) => {
      const hash = createHash('sha256').update(readFileSync(file)).digest('hex')
      return `${hash}  ${file.split('/').at(-1)}\n`
    })
    .join('')
}

const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: process.arch },
    out: { type: 'string', default: '.package' },
    plain: { type: 'boolean', default: false },
  },
})
const architectures = (values.arch === 'all' ? ['x64', 'arm64'] : [values.arch]) as Architecture[]
for (const name of architectures) {
  if (!Object.hasOwn(debianNames, name)) throw new TypeError(`--arch must be x64, arm64 or all`)
}
const out = resolve(root, values.out)
mkdirSync(out, { recursive: true })
process.umask(0o022)
const epoch = sourceEpoch()
const files = architectures.flatMap((architecture) =>
  packageFor({ architecture, out, epoch, plain: values.plain }),
)
writeFileSync(join(out, 'SHA256SUMS'), checksums(files))
for (const file of files) {
  const megabytes = (statSync(file).size / 1e6).toFixed(1)
  say(`${file}  ${megabytes} MB`)
}
