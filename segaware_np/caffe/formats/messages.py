"""The fields of Caffe's messages and of those that the authors' fork adds, in `schema`'s notation.

``raw`` holds anything: the parameters of layer types that this library refuses by their type.
"""

DESCRIPTION = """
NetParameter
  name str
  input str*
  input_shape BlobShape*
  input_dim int*
  force_backward bool
  state NetState
  debug_info bool
  layer LayerParameter*
BlobShape
  dim int*
NetState
  phase TRAIN|TEST TEST
  level int
  stage str*
NetStateRule
  phase TRAIN|TEST
  min_level int
  max_level int
  stage str*
  not_stage str*
ParamSpec
  name str
  share_mode STRICT|PERMISSIVE
  lr_mult float 1
  decay_mult float 1
LayerParameter
  name str
  type str
  bottom str*
  top str*
  phase TRAIN|TEST
  loss_weight float*
  param ParamSpec*
  blobs raw*
  propagate_down bool*
  include NetStateRule*
  exclude NetStateRule*
  deletetop bool
  deletebottom bool
  pullsfrom str none
  transform_param TransformationParameter
  loss_param LossParameter
  accuracy_param AccuracyParameter
  argmax_param ArgMaxParameter
  batch_norm_param BatchNormParameter
  bn_param BNParameter
  bias_channel_param BiasChannelParameter
  bias_param BiasParameter
  channel_reduce_param ChannelReduceParameter
  concat_param ConcatParameter
  convolution_param ConvolutionParameter
  crop_param CropParameter
  contrastive_loss_param ContrastiveLossParameter
  data_param DataParameter
  dense_image_data_param DenseImageDataParameter
  dist_loss_param DistLossParameter
  dropout_param DropoutParameter
  dummy_data_param DummyDataParameter
  eltwise_param EltwiseParameter
  eltwise_accuracy_param AccuracyParameter
  elu_param ELUParameter
  exp_param ExpParameter
  flatten_param FlattenParameter
  hdf5_data_param HDF5DataParameter
  hinge_loss_param HingeLossParameter
  im2dist_param Im2distParameter
  im2parity_param Im2parityParameter
  image_data_param ImageDataParameter
  inner_product_param InnerProductParameter
  infogain_loss_param InfogainLossParameter
  input_param InputParameter
  interp_param InterpParameter
  log_param ExpParameter
  lrn_param LRNParameter
  norm_conv_param NormConvParameter
  norm_conv_meanfield_param NormConvMeanfieldParameter
  memory_data_param MemoryDataParameter
  mat_write_param MatWriteParameter
  mvn_param MVNParameter
  padding_param PaddingParameter
  pooling_param PoolingParameter
  power_param PowerParameter
  prelu_param PReLUParameter
  python_param PythonParameter
  reduction_param ReductionParameter
  relu_param ReLUParameter
  replicate_param ReplicateParameter
  reshape_param ReshapeParameter
  scale_param ScaleParameter
  seg_accuracy_param SegAccuracyParameter
  sigmoid_param EngineParameter
  slice_param SliceParameter
  softmax_param SoftmaxParameter
  tanh_param EngineParameter
  threshold_param ThresholdParameter
  tile_param TileParameter
  window_data_param WindowDataParameter
  unpooling_param UnpoolingParameter
  upsample_param UpsampleParameter
  two_image_data_param TwoImageDataParameter
  densecrf_param raw
  embed_param raw
  four_image_data_param raw
  hdf5_output_param raw
  mat_read_param raw
  multi_stage_meanfield_param raw
  spp_param raw
TransformationParameter
  scale float 1
  mirror bool
  crop_size uint
  mean_file str
  mean_value float*
  force_color bool
  force_gray bool
  scale_factors float*
LossParameter
  ignore_label int
  normalization FULL|VALID|BATCH_SIZE|NONE VALID
  normalize bool
  weight_source str
  weight_by_label_freqs bool
  class_weighting float*
AccuracyParameter
  top_k uint 1
  axis int 1
  ignore_label int
ArgMaxParameter
  out_max_val bool
  top_k uint 1
  axis int
BatchNormParameter
  use_global_stats bool
  moving_average_fraction float 0.999
  eps float 1e-5
  update_global_stats bool
BNParameter
  scale_filler FillerParameter
  shift_filler FillerParameter
  bn_mode LEARN|INFERENCE
  slope_filler FillerParameter
  bias_filler FillerParameter
  momentum float 0.9
  eps float 1e-5
  frozen bool
  engine DEFAULT|CAFFE|CUDNN
BiasChannelParameter
  bg_bias float 1
  fg_bias float 2
  ignore_label int*
  label_type IMAGE|PIXEL
BiasParameter
  axis int 1
  num_axes int 1
  filler FillerParameter
ChannelReduceParameter
  num_channels uint 1
  operation SUM|MAX MAX
ConcatParameter
  axis int 1
  concat_dim uint 1
ConvolutionParameter
  num_output uint
  bias_term bool true
  bottom_is_im2col bool
  normalized_convolution bool
  pad uint*
  kernel_size uint*
  stride uint*
  dilation uint*
  pad_h uint
  pad_w uint
  kernel_h uint
  kernel_w uint
  stride_h uint
  stride_w uint
  group uint 1
  weight_filler FillerParameter
  bias_filler FillerParameter
  engine DEFAULT|CAFFE|CUDNN
  axis int 1
  force_nd_im2col bool
CropParameter
  axis int 2
  offset uint*
ContrastiveLossParameter
  margin float 1
  legacy_version bool
DataParameter
  source str
  batch_size uint
  rand_skip uint
  backend LEVELDB|LMDB
  scale float 1
  mean_file str
  crop_size uint
  mirror bool
  force_encoded_color bool
  prefetch uint 4
DenseImageDataParameter
  source str
  batch_size uint 1
  rand_skip uint
  shuffle bool
  new_height uint
  new_width uint
  is_color bool true
  mean_file str
  root_folder str
  mirror bool
  crop_width uint
  crop_height uint
  label_divide_factor uint 1
DistLossParameter
  ignore_label uint
  alpha float
  beta float
DropoutParameter
  dropout_ratio float 0.5
  sample_weights_test bool
DummyDataParameter
  data_filler FillerParameter*
  shape BlobShape*
  num uint*
  channels uint*
  height uint*
  width uint*
EltwiseParameter
  operation PROD|SUM|MAX SUM
  coeff float*
  stable_prod_grad bool true
ELUParameter
  alpha float 1
EngineParameter
  engine DEFAULT|CAFFE|CUDNN
ExpParameter
  base float -1
  scale float 1
  shift float 0
FillerParameter
  type str constant
  value float 0
  min float 0
  max float 1
  mean float 0
  std float 1
  sparse int -1
  variance_norm FAN_IN|FAN_OUT|AVERAGE
FlattenParameter
  axis int 1
  end_axis int -1
HDF5DataParameter
  source str
  batch_size uint
  shuffle bool
HingeLossParameter
  norm L1=1|L2 L1
Im2distParameter
  norm L1=1|L2 L2
  remove_center bool
  remove_bounds bool
Im2parityParameter
  ignore_label uint
ImageDataParameter
  source str
  batch_size uint 1
  rand_skip uint
  shuffle bool
  new_height uint
  new_width uint
  is_color bool true
  scale float 1
  mean_file str
  crop_size uint
  mirror bool
  root_folder str
  label_type NONE|IMAGE|PIXEL IMAGE
  ignore_label int 255
InfogainLossParameter
  source str
  axis int 1
InnerProductParameter
  num_output uint
  bias_term bool true
  weight_filler FillerParameter
  bias_filler FillerParameter
  axis int 1
  transpose bool
InputParameter
  shape BlobShape*
InterpParameter
  height int
  width int
  zoom_factor int 1
  shrink_factor int 1
  pad_beg int
  pad_end int
LRNParameter
  local_size uint 5
  alpha float 1
  beta float 0.75
  norm_region ACROSS_CHANNELS|WITHIN_CHANNEL
  k float 1
  engine DEFAULT|CAFFE|CUDNN
MemoryDataParameter
  batch_size uint
  channels uint
  height uint
  width uint
MatWriteParameter
  prefix str
  source str
  strip int
  period int 1
MVNParameter
  normalize_variance bool true
  across_channels bool
  eps float 1e-9
NormConvParameter
  scale_term bool true
  norm L1=1|L2 L2
  scale_filler FillerParameter
  remove_center bool
  remove_bounds bool
NormConvMeanfieldParameter
  compatibility_mode POTTS=0
  threshold float
  num_iterations uint 1
  spatial_filter_weight float 1
  bilateral_filter_weight float 1
  forced_spatial_filter_weight float
  forced_bilateral_filter_weight float
  iter_multiplier float 1
  norm L1=1|L2*
  scale_term bool*
  scale float*
  remove_center bool*
  remove_bounds bool*
  bias_term bool*
  pad uint*
  kernel_size uint*
  stride uint*
  dilation uint*
  group uint*
  weight_filler FillerParameter*
  bias_filler FillerParameter*
  engine DEFAULT|CAFFE|CUDNN
PaddingParameter
  pad_beg int
  pad_end int
PoolingParameter
  pool MAX|AVE|STOCHASTIC
  pad uint
  pad_h uint
  pad_w uint
  kernel_size uint
  kernel_h uint
  kernel_w uint
  stride uint 1
  stride_h uint
  stride_w uint
  engine DEFAULT|CAFFE|CUDNN
  global_pooling bool
  round_mode CEIL|FLOOR
  ceil_mode bool true
PowerParameter
  power float 1
  scale float 1
  shift float 0
PReLUParameter
  filler FillerParameter
  channel_shared bool
PythonParameter
  module str
  layer str
  param_str str
  share_in_parallel bool
ReductionParameter
  operation SUM=1|ASUM|SUMSQ|MEAN
  axis int 0
  coeff float 1
ReLUParameter
  negative_slope float 0
  engine DEFAULT|CAFFE|CUDNN
ReplicateParameter
  axis int 1
  num_copies int 2
ReshapeParameter
  shape BlobShape
  axis int 0
  num_axes int -1
ScaleParameter
  axis int 1
  num_axes int 1
  filler FillerParameter
  bias_term bool
  bias_filler FillerParameter
SegAccuracyParameter
  ignore_label int*
  reset bool true
SliceParameter
  axis int 1
  slice_point uint*
  slice_dim uint 1
SoftmaxParameter
  engine DEFAULT|CAFFE|CUDNN
  axis int 1
ThresholdParameter
  threshold float 0
TileParameter
  axis int 1
  tiles int
TwoImageDataParameter
  first_is_color bool true
  second_is_color bool
UnpoolingParameter
  unpool MAX|AVE|TILE
  pad uint
  pad_h uint
  pad_w uint
  kernel_size uint
  kernel_h uint
  kernel_w uint
  stride uint 1
  stride_h uint
  stride_w uint
  unpool_size uint
  unpool_h uint
  unpool_w uint
  engine DEFAULT|CAFFE
UpsampleParameter
  scale uint 2
  scale_h uint
  scale_w uint
  pad_out_h bool
  pad_out_w bool
  upsample_h uint
  upsample_w uint
WindowDataParameter
  source str
  scale float 1
  mean_file str
  batch_size uint
  crop_size uint
  mirror bool
  fg_threshold float 0.5
  bg_threshold float 0.5
  fg_fraction float 0.25
  context_pad uint
  crop_mode str warp
  cache_images bool
  root_folder str
SolverParameter
  net str
  net_param NetParameter
  train_net str
  test_net str*
  train_net_param NetParameter
  test_net_param NetParameter*
  train_state NetState
  test_state NetState*
  test_iter int*
  test_interval int
  test_compute_loss bool
  test_initialization bool true
  base_lr float
  display int
  average_loss int 1
  max_iter int
  iter_size int 1
  lr_policy str
  gamma float
  power float
  momentum float
  weight_decay float
  regularization_type str L2
  stepsize int
  stepvalue int*
  clip_gradients float -1
  snapshot int
  snapshot_prefix str
  snapshot_diff bool
  snapshot_format HDF5|BINARYPROTO BINARYPROTO
  solver_mode CPU|GPU GPU
  device_id int
  random_seed int -1
  type str SGD
  delta float 1e-8
  momentum2 float 0.999
  rms_decay float 0
  debug_info bool
  snapshot_after_train bool true
  solver_type SGD|NESTEROV|ADAGRAD|RMSPROP|ADADELTA|ADAM
"""
