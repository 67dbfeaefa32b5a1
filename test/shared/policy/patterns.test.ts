import * as fc from 'fast-check'
import t from 'tap'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import {
  absolutePattern,
  fitsIdentity,
  parseIdentityPattern,
} from '#shared/policy/identity-pattern.ts'
import { fitsPath, foldedPattern, parsePathPattern } from '#shared/policy/path-pattern.ts'

const domain = must(parseTrustDomain('mesh.internal'))
const id = (path: string): SpiffeId => `spiffe://mesh.internal/${path}` as SpiffeId

function callersOf(text: string, candidates: readonly string[]): readonly string[] {
  const pattern = absolutePattern(must(parseIdentityPattern(text)), domain)
  return candidates.filter((path) => fitsIdentity(pattern, id(path)))
}

t.test('parseIdentityPattern reads names, kinds, whole ids and beginnings', async (t) => {
  const all = ['service/web', 'service/web-2', 'service/api', 'host/web', 'host/h1', 'operator/o']
  t.same(callersOf('web', all), ['service/web'])
  t.same(callersOf('web*', all), ['service/web', 'service/web-2'])
  t.same(callersOf('web-*', all), ['service/web-2'])
  t.same(callersOf('service/*', all), ['service/web', 'service/web-2', 'service/api'])
  t.same(callersOf('host/h1', all), ['host/h1'])
  t.same(callersOf('host/*', all), ['host/web', 'host/h1'])
  t.same(callersOf('spiffe://mesh.internal/service/api', all), ['service/api'])
  t.same(callersOf('spiffe://mesh.internal/service/we*', all), ['service/web', 'service/web-2'])
  t.same(callersOf('*', all), all)
  t.same(callersOf('spiffe://mesh.internal/*', all), all)
  t.same(callersOf('spiffe://mesh.intern/*', all), [])
  t.same(callersOf('spiffe://other/service/web', all), [])
})

t.test('parseIdentityPattern refuses what names nobody, or more than it seems', async (t) => {
  const bad = [
    '',
    'Web',
    'web ',
    '**',
    'w*b',
    '*web',
    'group/web',
    'service/',
    'service/a/b',
    'web/*/x',
    'spiffe://*',
    'spiffe://mesh*',
    'spiffe://mesh.internal',
    'spiffe://mesh.internal*',
    'spiffe://mesh.internal/ser*',
    'spiffe://mesh.internal/service/../host/h',
    'spiffe://MESH/service/a',
    'http://mesh.internal/service/a',
    '-web*',
    'service/-*',
  ]
  for (const text of bad) t.match(parseIdentityPattern(text), { ok: false }, text)
})

t.test('fitsIdentity finds a caller without an identity in no pattern', async (t) => {
  const everybody = absolutePattern(must(parseIdentityPattern('*')), domain)
  t.equal(fitsIdentity(everybody, null), false)
})

function pathsOf(text: string, candidates: readonly string[]): readonly string[] {
  const pattern = must(parsePathPattern(text))
  return candidates.filter((path) => fitsPath(pattern, path))
}

t.test('parsePathPattern reads exact paths, beginnings, subtrees and templates', async (t) => {
  const all = ['/', '/a', '/a/', '/a/b', '/a/b/c', '/ab', '/a//', '/A']
  t.same(pathsOf('/a', all), ['/a'])
  t.same(pathsOf('/a/', all), ['/a/'])
  t.same(pathsOf('/a*', all), ['/a', '/a/', '/a/b', '/a/b/c', '/ab', '/a//'])
  t.same(pathsOf('/a/*', all), ['/a', '/a/', '/a/b', '/a/b/c', '/a//'])
  t.same(pathsOf('/*', all), all)
  t.same(pathsOf('/', all), ['/'])
  t.same(pathsOf('/{x}', all), ['/a', '/ab', '/A'])
  t.same(pathsOf('/a/{x}', all), ['/a/b'])
  t.same(pathsOf('/{x}/b', all), ['/a/b'])
  t.same(pathsOf('/{x}/{y}/c', all), ['/a/b/c'])
  t.same(pathsOf('/{x}/b/*', all), ['/a/b', '/a/b/c'])
  t.same(pathsOf('/{x}/b*', all), ['/a/b', '/a/b/c'])
})

t.test('parsePathPattern refuses what it could only half mean', async (t) => {
  const bad = [
    '',
    'a',
    '*',
    '/a*b',
    '/*/a',
    '/**',
    '//a',
    '/a//b',
    '/a/../b',
    '/./a',
    '/a/..',
    '//',
    '/a?b',
    '/a#b',
    '/a;b',
    '/a\\b',
    '/a%20b',
    '/a\u0000',
    '/{',
    '/{}',
    '/a{x}',
    '/{x}*',
    '/{a b}',
    '/{x}y',
    '/..',
    '/a//*',
  ]
  for (const text of bad) t.match(parsePathPattern(text), { ok: false }, text)
})

t.test('foldedPattern keeps what a pattern means', async (t) => {
  const fits = (text: string, path: string): boolean =>
    fitsPath(foldedPattern(must(parsePathPattern(text))), path)
  t.ok(fits('/Admin/', '/admin'))
  t.ok(fits('/Admin/*', '/admin/x'))
  t.ok(fits('/*', '/anything'))
  t.ok(fits('/*', '/'))
  t.ok(fits('/v1.*', '/v1.2'), 'a dot before the * is no end of a segment')
  t.notOk(fits('/v1.*', '/v12'))
  t.ok(fits('/Users/{ID}/keys', '/users/7/keys'))
  t.notOk(fits('/admin', '/administrators'))
})

t.test('a template fits the paths it is filled into, and their neighbours do not', async (t) => {
  const segment = fc.stringMatching(/^[a-z0-9.-]{1,8}$/).filter((one) => !/^\.+$/.test(one))
  fc.assert(
    fc.property(fc.array(fc.tuple(segment, fc.boolean()), { minLength: 1 }), (parts) => {
      const template = parts.map(([one, hole]) => (hole ? '/{x}' : `/${one}`)).join('')
      const path = parts.map(([one]) => `/${one}`).join('')
      const pattern = must(parsePathPattern(template))
      t.ok(fitsPath(pattern, path), `${template} ${path}`)
      t.notOk(fitsPath(pattern, `${path}/more`))
      t.notOk(fitsPath(pattern, `${path}/`))
      t.ok(fitsPath({ ...pattern, kind: 'subtree' }, `${path}/more`))
    }),
    { numRuns: 300, seed: 7 },
  )
})
