import t from 'tap'
import { RecentMap } from '#agent/http1/recent-map.ts'

t.test('RecentMap finds what was set, and stays within its bound', async (t) => {
  const map = new RecentMap<number>(100)
  for (let i = 0; i < 1000; i++) {
    map.set(`key ${i}`, i)
    t.equal(map.get(`key ${i}`), i)
    t.ok(map.size <= 100)
  }
  t.equal(map.get('key 0'), undefined)
})

t.test('RecentMap keeps what is asked for again and again', async (t) => {
  const map = new RecentMap<number>(10)
  map.set('often', 1)
  for (let i = 0; i < 100; i++) {
    map.set(`once ${i}`, i)
    t.equal(map.get('often'), 1)
  }
  t.ok(map.size <= 10)
})
