// A netlink socket: the kernel's own interface to nftables, without a tool between. It exists for three things that nft 1.0.6 cannot do
// cheaply, measured with 10,000 services of 10 backends:
//   - to know that nothing changed: `nft -j list table` takes 4.3 s, also with -t; the generation and the queue of events take 0.1 ms
//   - to change an element beside a foreign set: `add element` and `delete element` first read the elements of every interval set of the
//   host, in any table (2 to 3 s for a set of 200,000 elements); a message with the element takes 0.2 ms
//   - to read events only when asked, with a count of what was lost (ENOBUFS)
// Tried and left: npm `netlink` (ends the process at ENOBUFS), `nft monitor` (a child that also prints every change of other tables, and cannot
// tell our own changes from others' in a container), `nft --debug=mnl` for the generation (a dump for people).
// The C library's socket calls come from the package koffi. It is optional: without it, or on a machine of the other byte order,
// openNetlink() gives undefined and nft does everything, slowly.
// Invariant: no call here waits but `send`, which runs on a thread of libuv: the kernel's lock may be held by another program's transaction.
import { closeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { endianness } from 'node:os'

export interface NetlinkSocket {
  /** Hands one datagram to the kernel, which has answered it when this resolves. Errors: NetlinkError. */
  send(message: Uint8Array): Promise<void>
  /** The next datagram, valid until the next call; undefined: none is there. Errors: NetlinkError; ENOBUFS: the kernel dropped some. */
  receive(): Buffer | undefined
  /** Multicast group. Errors: NetlinkError. */
  join(group: number): void
  close(): void
}

class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly errno: number

  constructor(call: string, errno: number) {
    super(`${call} on a netlink socket failed with error ${errno}`)
    this.errno = errno
  }
}

export const NETLINK_NETFILTER = 12
const EAGAIN = 11
const EINTR = 4

const AF_NETLINK = 16
const SOCKADDR_NL_BYTES = 12
// SOCK_RAW with CLOEXEC and NONBLOCK.
const SOCKET_TYPE = 3 | 0o2000000 | 0o4000
const SOL_SOCKET = 1
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SOL_NETLINK = 270
const NETLINK_ADD_MEMBERSHIP = 1

// One send is one transaction: BATCH_BYTES_MAX of nftables/kernel.ts with the kernel's overhead.
const SEND_BUFFER_BYTES = 4 << 20
// Events between two looks: 10,000 changed elements. What is beyond makes the next look a full one.
const RECEIVE_BUFFER_BYTES = 4 << 20
// Larger than any datagram of the kernel's: it fills at most 32 KiB for a dump, 64 KiB for events.
const DATAGRAM_BYTES = 1 << 17

/** undefined where this process cannot have such a socket: nft does everything then. */
export function openNetlink(protocol: number): NetlinkSocket | undefined {
  const libc = loadLibc()
  if (libc === undefined) return undefined
  const fd = libc.socket(AF_NETLINK, SOCKET_TYPE, protocol)
  if (fd < 0) return undefined
  for (const [option, bytes] of [
    [SO_SNDBUFFORCE, SEND_BUFFER_BYTES],
    [SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES]
  ] as const)
    libc.setsockopt(fd, SOL_SOCKET, option, int(bytes), 4) // refused without NET_ADMIN, and then nothing else works either
  // Bound, to a port that the kernel chooses: a socket without a port gets no multicast.
  const address = Buffer.alloc(SOCKADDR_NL_BYTES)
  address.writeUInt16LE(AF_NETLINK)
  if (libc.bind(fd, address, address.length) < 0) {
    closeSync(fd)
    return undefined
  }
  const buffer = Buffer.alloc(DATAGRAM_BYTES)
  let open = true
  return {
    send: (message) =>
      new Promise((resolve, reject) => {
        libc.send.async(fd, message, message.length, 0, (error, result) => {
          if (error !== null) reject(error)
          else if (result < 0)
            reject(new NetlinkError('send', EIO)) // errno belongs to the other thread
          else resolve()
        })
      }),
    receive() {
      for (;;) {
        const length = open ? libc.recv(fd, buffer, buffer.length, 0) : 0
        if (length >= 0) return length === 0 ? undefined : buffer.subarray(0, length)
        const errno = libc.errno()
        if (errno === EAGAIN) return undefined
        if (errno !== EINTR) throw new NetlinkError('recv', errno)
      }
    },
    join(group) {
      if (libc.setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int(group), 4) < 0)
        throw new NetlinkError('join', libc.errno())
    },
    close() {
      if (open) closeSync(fd)
      open = false
    }
  }
}

const EIO = 5

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}

interface Libc {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array, length: number): number
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number
  recv(fd: number, buffer: Uint8Array, length: number, flags: number): number
  readonly send: {
    async(
      fd: number,
      buffer: Uint8Array,
      length: number,
      flags: number,
      done: (error: Error | null, result: number) => void
    ): void
  }
  errno(): number
}

let loaded: { readonly libc: Libc | undefined } | undefined

function loadLibc(): Libc | undefined {
  return (loaded ??= { libc: tryLibc() }).libc
}

/** Any failure means that this machine has no such library, or not for this platform. */
function tryLibc(): Libc | undefined {
  if (process.platform !== 'linux' || endianness() !== 'LE') return undefined
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi
    const library = koffi.load(null)
    return {
      socket: library.func('int socket(int, int, int)'),
      bind: library.func('int bind(int, const void*, uint)'),
      setsockopt: library.func('int setsockopt(int, int, int, const void*, uint)'),
      recv: library.func('long recv(int, _Out_ void*, size_t, int)'),
      send: library.func('long send(int, const void*, size_t, int)') as unknown as Libc['send'],
      errno: () => koffi.errno()
    }
  } catch {
    return undefined
  }
}

/** What we use of koffi; its own types are not there where the package is not. */
interface Koffi {
  load(path: null): { func(declaration: string): (...args: never[]) => number }
  errno(): number
}
