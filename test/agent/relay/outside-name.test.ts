import t from 'tap'
import { authorityOutside, outsideNameOf } from '#agent/relay/outside-name.ts'
import { must, parsePort } from '#shared/model/names.ts'

const port = (number: number) => must(parsePort(number))

t.test('the mesh’s name becomes the one that is proven at the address', async (t) => {
  const service = { port: port(443), names: ['a.example', 'b.example', '203.0.113.5'] }
  const name = (said: string, tls: object | null = {}, at = 443): string =>
    outsideNameOf({ ...service, tls, port: port(at) }, { said }).authority
  t.equal(name('b.example'), 'b.example')
  t.equal(name('203.0.113.5'), '203.0.113.5')
  t.equal(name('fd00::5', {}, 8443), '[fd00::5]:8443')
  t.equal(name('203.0.113.5', { serverName: 'a.example' }, 8443), 'a.example:8443')
  t.equal(name('b.example', null), 'a.example:443', 'in plain it is the first at each')
  t.equal(name('b.example', null, 80), 'a.example')
})

t.test('over TLS no request goes to another name than the manifest has', async (t) => {
  const names = ['api.example', 'fd00::5', 'old.internal']
  const outside = outsideNameOf({ tls: {}, port: port(443), names }, { said: 'api.example' })
  const asked = (authority: string) => authorityOutside(authority, outside)
  for (const own of ['api.mesh', 'API.mesh:80', '']) t.equal(asked(own), 'api.example', own)
  for (const known of [
    'api.example',
    'API.example:80',
    'api.example.',
    'old.internal',
    '[fd00::5]:80',
  ])
    t.equal(asked(known), known)
  for (const other of [
    'evil.example',
    'api.example.evil.example',
    'xapi.example',
    'api.example:80:80',
    'api.example@evil.example',
    'user@api.example',
    'api.example..',
    '[fd00::6]',
    '203.0.113.5',
    '%61pi.example',
    'api.example/x',
  ])
    t.equal(asked(other), null, other)
})

t.test('in plain nothing is proven, and a name of the world stays', async (t) => {
  const outside = outsideNameOf({ tls: null, port: port(80), names: ['10.0.0.5'] }, { said: 'x' })
  t.equal(authorityOutside('shop.internal', outside), 'shop.internal')
  t.equal(authorityOutside('proxy.mesh', outside), '10.0.0.5')
})
