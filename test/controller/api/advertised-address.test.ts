import t from 'tap'
import { advertisedProblem } from '#controller/api/advertised-address.ts'

t.test(
  'advertisedProblem doubts names that lead to loopback or nowhere, not addresses',
  async (t) => {
    t.match(await advertisedProblem('localhost'), /localhost leads only to .*set "advertise"/)
    t.match(await advertisedProblem('no-such-host.invalid'), /cannot be resolved.*set "advertise"/)
    t.equal(await advertisedProblem('127.0.0.1'), '')
    t.equal(await advertisedProblem('10.0.0.1'), '')
  },
)
