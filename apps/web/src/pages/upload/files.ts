// Files that the user selects: kinds, limits, and what a header of an image states.

export type Kind = 'medical_image' | 'ecg';

/** Default limits of a gateway, as in the patient app. An operator can configure others; the gateway decides. */
export const MAX_IMAGE_BYTES = 64_000_000;
export const MAX_IMAGE_PIXELS = 64_000_000;
export const MAX_ECG_BYTES = 1_000_000_000;

/** Bytes of an image in which its dimensions are searched. Pictures of cameras begin with a small picture of themselves. */
const HEAD_BYTES = 1 << 20;

/** The kind of a file that was dropped on the page: PNG and JPEG files are medical images, all others ECGs. */
export function kindOf(file: File): Kind {
  const isImage = /\.(png|jpe?g)$/i.test(file.name) || file.type === 'image/png' || file.type === 'image/jpeg';
  return isImage ? 'medical_image' : 'ecg';
}

/** Size of an image in pixels. */
export interface Pixels {
  width: number;
  height: number;
}

/** Size of a PNG or JPEG picture according to its header; `undefined` if it is neither. Nothing is decoded, because a small file
 *  can declare a picture that does not fit into memory. */
export async function pixelsOf(file: Blob): Promise<Pixels | undefined> {
  const head = new DataView(await file.slice(0, HEAD_BYTES).arrayBuffer());
  return pngSize(head) ?? jpegSize(head);
}

/** PNG specification, 5.2 and 11.2.2. */
function pngSize(head: DataView): Pixels | undefined {
  if (head.byteLength < 24 || head.getUint32(0) !== 0x89504e47 || head.getUint32(4) !== 0x0d0a1a0a) return undefined;
  if (head.getUint32(12) !== 0x49484452) return undefined;
  return valid({ width: head.getUint32(16), height: head.getUint32(20) });
}

/** ITU-T T.81, annex B: the start-of-frame segment. */
function jpegSize(head: DataView): Pixels | undefined {
  if (head.byteLength < 4 || head.getUint16(0) !== 0xffd8) return undefined;
  let at = 2;
  while (at + 9 <= head.byteLength) {
    if (head.getUint8(at) !== 0xff) return undefined;
    const marker = head.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
    } else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += 2;
    } else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return valid({ width: head.getUint16(at + 7), height: head.getUint16(at + 5) });
    } else {
      at += 2 + head.getUint16(at + 2);
    }
  }
  return undefined;
}

function valid(size: Pixels): Pixels | undefined {
  return size.width > 0 && size.height > 0 ? size : undefined;
}
