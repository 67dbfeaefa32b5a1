import t from 'tap'
import { isManifestName } from '#shared/model/manifest-name.ts'

t.test('only finished JSON files count as manifests', async (t) => {
  for (const name of ['orders.json', 'a.b.json', 'x~.json', 'Ä.json']) {
    t.equal(isManifestName(name), true, name)
  }
  const others = ['.orders.json', '.json', 'orders.json~', 'orders.json.swp', 'orders.json.tmp']
  for (const name of [
    ...others,
    '#orders.json#',
    '#orders.json',
    'orders.JSON',
    'orders',
    '4913',
  ]) {
    t.equal(isManifestName(name), false, name)
  }
})
