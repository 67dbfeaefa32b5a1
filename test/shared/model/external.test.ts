import t from 'tap'
import { isNoOutside, isPrivate } from '#shared/model/external.ts'

const list = (text: string): readonly string[] => text.trim().split(/\s+/)

t.test('what no other machine can have is no outside, in any spelling', async (t) => {
  const none = `
    0.0.0.0 127.0.0.1 127.9.9.9 169.254.169.254 224.0.0.1 240.240.0.9 255.255.255.255
    :: ::1 ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::FFFF:7F00:1 ::ffff:203.0.113.5
    fe80::1 febf::1 FE80::1 ff02::1 ff05::1
    64:ff9b::7f00:1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe
    2002:7f00:1:: 2002:7f00:1::1 2002:a9fe:a9fe::1`
  for (const address of list(none)) t.ok(isNoOutside(address), address)
  const outside = `
    203.0.113.5 10.0.0.5 192.168.1.1 100.64.0.1 1.127.0.1 223.255.255.255
    2001:db8::1 fd00::5 2002:cb00:7105::1 64:ff9b::cb00:7105 fec0::1 f::1`
  for (const address of list(outside)) t.notOk(isNoOutside(address), address)
})

t.test('networks that the world does not reach are private', async (t) => {
  const own = '10.0.0.5 172.16.0.1 172.31.255.1 192.168.0.1 100.64.0.1 fd00::5'
  for (const address of list(own)) t.ok(isPrivate(address), address)
  const open = '203.0.113.5 172.32.0.1 172.15.0.1 192.169.0.1 100.128.0.1 2001:db8::1'
  for (const address of list(open)) t.notOk(isPrivate(address), address)
})
