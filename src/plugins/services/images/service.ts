import { Images } from "#api/services/images/v1/images_pb.ts";
import type { Collector } from "#core/gc/gc.ts";
import type { ImageStore } from "#core/images/images.ts";
import { type Service, serve } from "#pkg/rpc/service.ts";
import { timestampToNanos } from "#pkg/time.ts";
import {
  descriptorFromWire,
  imageFromWire,
  imageToWire,
  maskedImageFromWire,
} from "#plugins/services/images/convert.ts";

export function imagesService(images: ImageStore, collector: Collector): Service {
  return serve(Images, {
    async get(ctx, { name }) {
      return { image: imageToWire(await images.get(ctx, name)) };
    },
    async list(ctx, { filters }) {
      return { images: (await images.list(ctx, filters)).map(imageToWire) };
    },
    async create(ctx, { image, sourceDateEpoch }) {
      const createdAt = sourceDateEpoch && timestampToNanos(sourceDateEpoch);
      const created = await images.create(ctx, imageFromWire(image), { createdAt });
      return { image: imageToWire(created) };
    },
    async update(ctx, { image, updateMask, sourceDateEpoch }) {
      const fields = updateMask?.paths ?? [];
      const updatedAt = sourceDateEpoch && timestampToNanos(sourceDateEpoch);
      const given = maskedImageFromWire(image, fields);
      return { image: imageToWire(await images.update(ctx, given, fields, { updatedAt })) };
    },
    async delete(ctx, { name, sync, target }) {
      const given = target?.digest ? descriptorFromWire(target) : undefined;
      await images.delete(ctx, name, { target: given });
      if (sync) await collector.scheduleAndWait(ctx);
      return {};
    },
  });
}
