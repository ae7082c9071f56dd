// Writes a tar archive in the ustar form of POSIX (IEEE Std 1003.1, pax, section "ustar Interchange Format"). A file is one
// block of 512 bytes with its name and size, then its bytes, padded with zeros to whole blocks; two empty blocks end the
// archive. Why no library: tar-stream and tar read archives, follow links and keep owners, and a bundle needs none of that.

const BLOCK_BYTES = 512
/** The field of a name without the prefix field, which no name here is long enough for. */
const NAME_BYTES_MAX = 100

/** One file of an archive. */
export interface TarFile {
  /** The path inside the archive: at most 100 bytes of ASCII, with "/" between folders. */
  readonly name: string
  readonly content: Uint8Array
}

/** Returns the archive. `seconds`: the time of all its files, in Unix seconds. Throws RangeError for a name that does not fit. */
export function tarOf(files: readonly TarFile[], seconds: number): Uint8Array {
  const blocks = files.flatMap(({ name, content }) => [
    headerOf(name, content.length, seconds),
    content,
    new Uint8Array((BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES)
  ])
  return Buffer.concat([...blocks, new Uint8Array(2 * BLOCK_BYTES)])
}

/** The block before a file: a regular file that only its owner may read. */
function headerOf(name: string, size: number, seconds: number): Uint8Array {
  if (!/^[\x21-\x7e]+$/.test(name) || name.length > NAME_BYTES_MAX)
    throw new RangeError(`the name ${JSON.stringify(name)} does not fit into a tar header`)
  const block = Buffer.alloc(BLOCK_BYTES)
  block.write(name, 0, 'ascii')
  block.write(octal(0o600, 7), 100, 'ascii')
  block.write(octal(0, 7), 108, 'ascii') // owner and group: root, since names of this host mean nothing elsewhere
  block.write(octal(0, 7), 116, 'ascii')
  block.write(octal(size, 11), 124, 'ascii')
  block.write(octal(seconds, 11), 136, 'ascii')
  block.fill(' ', 148, 156) // the checksum counts itself as spaces
  block.write('0', 156, 'ascii')
  block.write('ustar\u000000', 257, 'ascii')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)} `, 148, 'ascii')
  return block
}

/** A number of `digits` octal digits, with the NUL that ends the field. */
function octal(value: number, digits: number): string {
  return `${Math.floor(value).toString(8).padStart(digits, '0')}\0`
}
