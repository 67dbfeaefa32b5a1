import t from 'tap'
import { TokenBucket } from '#agent/http2/abuse-budgets.ts'

t.test(
  'TokenBucket lets a burst pass, then the steady rate, and never saves up more',
  async (t) => {
    const bucket = new TokenBucket({ burst: 10, perSecond: 5 }, 0)
    const spend = (count: number, at: number): number => {
      let passed = 0
      for (let i = 0; i < count; i++) if (bucket.spend(at)) passed++
      return passed
    }
    t.equal(spend(20, 0), 10)
    t.equal(spend(20, 1000), 5)
    t.equal(spend(20, 1100), 0)
    t.equal(spend(20, 1200), 1)
    t.equal(spend(20, 100_000), 10)
  },
)
